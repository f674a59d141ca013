-- A schema that a publication has as a whole, and in which walferry's own tables are (PostgreSQL 15
-- and later).
-- $1 publication.
select n.nspname
from pg_publication_namespace s join pg_publication p on p.oid = s.pnpubid
join pg_namespace n on n.oid = s.pnnspid
where p.pubname = $1 and n.nspname in ('public', 'walferry')
limit 1
