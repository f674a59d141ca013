-- The schemas that a publication has as a whole (PostgreSQL 15 and later), and the object id of each
-- one's place in it.
-- $1 publication.
select n.nspname as schema, pn.oid as member
from pg_catalog.pg_publication_namespace pn
join pg_catalog.pg_publication p on p.oid = pn.pnpubid
join pg_catalog.pg_namespace n on n.oid = pn.pnnspid
where p.pubname = $1
