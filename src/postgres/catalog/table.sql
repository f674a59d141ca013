-- A table: what kind of relation it is, and how it is replicated.
-- $1 schema, $2 name.
select c.oid, c.relkind::text, c.relreplident::text, c.relrowsecurity,
    coalesce(k.condeferrable, false) as is_key_deferrable
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'p'
where n.nspname = $1 and c.relname = $2
