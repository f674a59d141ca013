-- The tables of a publication, and whether it leaves out rows or columns of each. Row filters and
-- column lists came with PostgreSQL 15, so they are read through jsonb.
-- $1 publication.
select t.schemaname::text as schema, t.tablename::text as name,
    coalesce(pg_catalog.to_jsonb(r) ->> 'prqual' is not null, false) as has_row_filter,
    coalesce(pg_catalog.to_jsonb(r) ->> 'prattrs' is not null, false) as has_column_list
from pg_catalog.pg_publication_tables t
join pg_catalog.pg_publication p on p.pubname = t.pubname
join pg_catalog.pg_namespace n on n.nspname = t.schemaname
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
where t.pubname = $1
order by 1, 2
