-- The rights that the role which runs walferry lacks: what they are on, the statement that grants
-- them, and the kind: a grant, the end of row security, or the end of a right that only row security
-- kept from being of use, as default privileges give to roles of an API. The role reads and writes
-- rows and executes functions; it owns nothing.
-- $1 the role.
with role as (
    select oid, rolname, rolbypassrls or rolsuper as sees_all from pg_roles where rolname = $1::text
),
own as (
    select c.oid, c.relkind, c.relrowsecurity,
        format('%I.%I', n.nspname, c.relname) as name,
        -- Rows of a view are locked with the right to update them.
        case when c.oid = 'walferry.migration'::regclass then 'select'
            when c.relkind = 'v' then 'select, update'
            else 'select, insert, update, delete' end as verbs
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v')
      and (n.nspname = 'walferry'
           or n.nspname = 'public' and c.relname = 'elasticsearch_sync_queue')
)
select 'schema walferry' as name,
    format('grant usage on schema walferry to %I', r.rolname) as statement, 'grant' as kind
from role r where not has_schema_privilege(r.oid, 'walferry', 'usage')
union all
select format('%s %s', case o.relkind when 'v' then 'view' else 'table' end, o.name),
    format('grant %s on %s to %I', o.verbs, o.name, r.rolname), 'grant'
from own o cross join role r
where exists (select from regexp_split_to_table(o.verbs, ', ') verb
              where not has_table_privilege(r.oid, o.oid, verb))
union all
select 'sequence public.elasticsearch_sync_queue_id_seq',
    format('grant usage, select, update on sequence public.elasticsearch_sync_queue_id_seq to %I',
        r.rolname), 'grant'
from role r
where exists (select from unnest(array['usage', 'select', 'update']) verb
              where not has_sequence_privilege(r.oid,
                  'public.elasticsearch_sync_queue_id_seq', verb))
union all
select format('function %s', p.oid::regprocedure),
    format('grant execute on function %s to %I', p.oid::regprocedure, r.rolname), 'grant'
from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join role r
where (n.nspname = 'walferry'
       or n.nspname = 'public' and p.proname = 'get_elasticsearch_queue_stats' and p.pronargs = 0)
  and not has_function_privilege(r.oid, p.oid, 'execute')
union all
-- COPY does not write to a table whose row security filters the role.
select o.name, format('alter table %s disable row level security', o.name), 'unsecured'
from own o cross join role r where o.relrowsecurity and not r.sees_all
union all
select distinct coalesce(g.rolname::text, 'PUBLIC') || ' on ' || o.name,
    format('revoke all on %s from %s', o.name, coalesce(quote_ident(g.rolname), 'public')), 'revoked'
from own o cross join role r
join pg_class c on c.oid = o.oid
cross join lateral (
    select e.grantee from aclexplode(c.relacl) e
    union
    select e.grantee from pg_attribute a cross join aclexplode(a.attacl) e where a.attrelid = c.oid
) held
left join pg_roles g on g.oid = held.grantee
where o.relrowsecurity and not r.sees_all
  and held.grantee <> c.relowner and held.grantee <> r.oid
  and not coalesce(g.rolbypassrls or g.rolsuper, false)
  and not exists (select from pg_policy p where p.polrelid = c.oid
                    and (held.grantee = any (p.polroles) or 0 = any (p.polroles)))
