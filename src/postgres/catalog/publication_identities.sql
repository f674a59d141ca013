-- What is published of each table: object ids of the table, the publication and the table's place in
-- it, the operations, and the transaction that altered the publication last: it may have published
-- less for a moment. `pg_publication_rel` has no row for a table that is published by its schema
-- or with all tables.
-- $1 publication.
select n.nspname || '.' || c.relname as name, n.nspname as schema,
    c.oid || '/' || p.oid as table_and_publication, r.oid as member,
    pg_catalog.concat_ws('/', p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
        'x' || p.xmin::text) as operations
from pg_catalog.pg_publication_tables t
join pg_catalog.pg_publication p on p.pubname = t.pubname
join pg_catalog.pg_namespace n on n.nspname = t.schemaname
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
where t.pubname = $1
