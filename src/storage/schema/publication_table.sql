-- A table to publish.
-- $1 schema, $2 name, $3 publication.
select c.oid, c.relkind in ('r', 'p') as is_table, c.relkind = 'p' as is_partitioned,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) as has_key,
    exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
        where r.prrelid = c.oid and p.pubname = $3) as is_published
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2
