-- What of walferry's a role owns, as statements that make the role that migrates the owner. Only
-- what the migrations define, under its name and of its kind: anything else that the role made in
-- the schema stays its own.
-- $1 the role, $2 names of tables, $3 names of views.
select format('alter schema %I owner to current_user', n.nspname) as statement
from pg_namespace n join pg_roles r on r.oid = n.nspowner
where n.nspname = 'walferry' and r.rolname = $1::text
union all
select format('alter table %I.%I owner to current_user', n.nspname, c.relname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.oid = c.relowner
where r.rolname = $1::text
  and (n.nspname = 'walferry'
       and (c.relkind in ('r', 'p') and (c.relname = any ($2::text[])
                or c.relname in ('migration', 'original_queue') or c.relname ~ '^queue_p[0-9]{8}$')
            or c.relkind = 'v' and c.relname = any ($3::text[]))
       or n.nspname = 'public' and c.relname = 'elasticsearch_sync_queue' and c.relkind = 'p')
