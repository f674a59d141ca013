-- What roles may do with public.elasticsearch_sync_queue, a row for each privilege: the statement
-- that grants it, the role, the privilege, and whether it is withheld. Roles of an API are not granted it
-- again, since `change_data` has private columns: those are anon, authenticated, and what default
-- privileges name. Nor is PUBLIC. An owner that is not the new one is granted all of it.
with queue as (
    select oid, relowner, relacl from pg_class
    where oid = 'public.elasticsearch_sync_queue'::regclass),
held (object, column_name, role, verb, passes_on) as (
    select 'public.elasticsearch_sync_queue', null::name,
           e.grantee, e.privilege_type, e.is_grantable
    from queue cross join aclexplode(coalesce(relacl, acldefault('r', relowner))) e
    union all
    select 'public.elasticsearch_sync_queue', a.attname,
           e.grantee, e.privilege_type, e.is_grantable
    from queue q join pg_attribute a on a.attrelid = q.oid and not a.attisdropped
    cross join aclexplode(a.attacl) e
    union all
    select 'sequence public.elasticsearch_sync_queue_id_seq', null,
           e.grantee, e.privilege_type, e.is_grantable
    from pg_class c cross join aclexplode(coalesce(c.relacl, acldefault('s', c.relowner))) e
    where c.oid = pg_get_serial_sequence('public.elasticsearch_sync_queue', 'id')::regclass
    union all
    select 'function public.get_elasticsearch_queue_stats()', null,
           e.grantee, e.privilege_type, e.is_grantable
    from pg_proc cross join aclexplode(coalesce(proacl, acldefault('f', proowner))) e
    where oid = to_regprocedure('public.get_elasticsearch_queue_stats()'))
select format('grant %s%s on %s to %I%s', verb,
           coalesce(' (' || quote_ident(column_name) || ')', ''), object, coalesce(rolname, 'public'),
           case when passes_on then ' with grant option' else '' end) as statement,
       coalesce(rolname::text, 'PUBLIC') as role, verb,
       role = 0 or rolname in ('anon', 'authenticated')
           or not rolsuper and not rolbypassrls and exists (
               select from pg_default_acl d cross join aclexplode(d.defaclacl) e
               where e.grantee = r.oid and d.defaclnamespace in (0, 'public'::regnamespace))
           as is_withheld,
       object like 'function %' as is_of_statistics
from held left join pg_roles r on r.oid = role
where rolname is distinct from current_user and (role = 0 or rolname is not null)
order by role = 0, rolname, object, column_name, verb
