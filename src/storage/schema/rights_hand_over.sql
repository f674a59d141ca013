-- What is not owned by a role yet: its name, and the statement that hands it over. Partitions come
-- before the whole, the schema first; indexes and the owned sequence follow their tables.
-- $1 the role.
with role as (
    select oid, rolname from pg_roles where rolname = $1::text
)
select format('schema %I', n.nspname) as name,
    format('alter schema %I owner to %I', n.nspname, role.rolname) as statement
from pg_namespace n cross join role
where n.nspname = 'walferry' and n.nspowner <> role.oid
union all
select format('%s %I.%I', case c.relkind when 'v' then 'view' else 'table' end,
        n.nspname, c.relname),
    format('alter table %I.%I owner to %I', n.nspname, c.relname, role.rolname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join role
where (n.nspname = 'walferry'
       or n.nspname = 'public' and c.relname = 'elasticsearch_sync_queue')
  and c.relkind in ('r', 'p', 'v') and c.relowner <> role.oid
union all
select format('function %s', p.oid::regprocedure),
    format('alter function %s owner to %I', p.oid::regprocedure, role.rolname)
from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join role
where (n.nspname = 'walferry'
       or n.nspname = 'public' and p.proname = 'get_elasticsearch_queue_stats'
          and p.pronargs = 0)
  and p.proowner <> role.oid
