-- How rows of tables are identified, each as one text: replica identity, deferrability, and the
-- columns of the primary key with their types.
-- $1 the tables, as schema.name.
select n.nspname || '.' || c.relname as name,
    pg_catalog.concat_ws(' ', c.relreplident, k.condeferrable,
        (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attname,
                pg_catalog.format_type(a.atttypid, a.atttypmod)), ', ' order by key.place)
            from pg_catalog.unnest(i.indkey::int2[]) with ordinality as key(number, place)
            join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = key.number))
        as key
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
left join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'p'
where n.nspname || '.' || c.relname = any($1::text[])
