-- The tables of a publication, and whether it leaves out rows or columns of each. A column list
-- counts if a column of the table is not in it. Of a table that lacks an identity, PostgreSQL refuses
-- every UPDATE and DELETE.
-- $1 publication.
select t.schemaname::text as schema, t.tablename::text as name,
    to_jsonb(t) ->> 'rowfilter' is not null
    or coalesce(jsonb_array_length(nullif(to_jsonb(t) -> 'attnames', 'null')) <
         (select count(*) from pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            and a.attgenerated = ''), false) as is_filtered,
    c.relreplident = 'n'
    or c.relreplident = 'd' and not exists (
        select from pg_index i where i.indrelid = c.oid and i.indisprimary)
    or c.relreplident = 'i' and not exists (
        select from pg_index i where i.indrelid = c.oid and i.indisreplident) as lacks_identity
from pg_publication_tables t
join pg_namespace n on n.nspname = t.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
where t.pubname = $1
order by 1, 2
