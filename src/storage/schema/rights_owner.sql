-- What is walferry's and belongs to a role that is neither a superuser nor the one that migrates:
-- its name, and the role. The original system's queue, a plain table, is not walferry's.
with own (name, owner) as (
    select format('schema %I', n.nspname), n.nspowner
    from pg_namespace n where n.nspname = 'walferry'
    union all
    select format('%s %I.%I', case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
            when 'f' then 'foreign table' else 'table' end, n.nspname, c.relname), c.relowner
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
      and (n.nspname = 'walferry'
           or n.nspname = 'public' and c.relname = 'elasticsearch_sync_queue' and c.relkind <> 'r')
    union all
    select format('function %s', p.oid::regprocedure), p.proowner
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'walferry'
       or n.nspname = 'public' and p.proname = 'get_elasticsearch_queue_stats' and p.pronargs = 0
          and exists (select from pg_namespace where nspname = 'walferry')
)
select o.name, r.rolname::text as owner
from own o join pg_roles r on r.oid = o.owner
where not r.rolsuper and r.rolname <> current_user
order by o.name
