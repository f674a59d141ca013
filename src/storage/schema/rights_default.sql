-- Rights on walferry's objects of roles that default privileges name, as `alter default privileges grant
-- all on tables to web_anon` gives them to each new table: the statement that takes them away, and
-- whose they are on what. Roles that see all rows anyway keep theirs.
-- $1 roles that keep theirs too.
with own (object, name, owner, acl) as (
    select 'schema walferry', 'schema walferry', n.nspowner, n.nspacl
    from pg_namespace n where n.nspname = 'walferry'
    union all
    select format('%s %I.%I', case c.relkind when 'S' then 'sequence' else 'table' end,
            n.nspname, c.relname),
        format('%I.%I', n.nspname, c.relname), c.relowner, c.relacl
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'S')
      and (n.nspname = 'walferry' or n.nspname = 'public'
           and c.relname in ('elasticsearch_sync_queue', 'elasticsearch_sync_queue_id_seq'))
    union all
    select format('function %s', p.oid::regprocedure), format('function %s', p.oid::regprocedure),
        p.proowner, p.proacl
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'walferry'
       or n.nspname = 'public' and p.proname = 'get_elasticsearch_queue_stats' and p.pronargs = 0
)
select distinct format('revoke all on %s from %I', o.object, r.rolname) as statement,
    format('%s on %s', r.rolname, o.name) as name
from own o
cross join aclexplode(o.acl) held
join pg_roles r on r.oid = held.grantee
where held.grantee <> o.owner and not r.rolsuper and not r.rolbypassrls and r.rolname <> current_user
  and exists (select from pg_default_acl d cross join aclexplode(d.defaclacl) e
              where e.grantee = r.oid and d.defaclnamespace in (0, 'public'::regnamespace))
  and r.rolname <> all ($1::text[])
order by name
