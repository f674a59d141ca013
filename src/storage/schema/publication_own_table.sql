-- A table of walferry's own that a publication has, quoted, and whether it is listed there itself.
-- The view resolves schemas and partitions.
-- $1 publication.
select format('%I.%I', schemaname, tablename) as name,
    exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
        where p.pubname = $1
          and r.prrelid = format('%I.%I', schemaname, tablename)::regclass) as is_listed
from pg_publication_tables
where pubname = $1 and (schemaname = 'walferry'
    or schemaname = 'public' and tablename = 'elasticsearch_sync_queue')
order by 1 limit 1
