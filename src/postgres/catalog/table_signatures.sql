-- The columns of tables that a run knows by what they were at its beginning, each table's as one text:
-- generated columns, and columns of composite types and of arrays of them, with their attributes. The
-- stream and the reads follow all others by themselves.
-- $1 the tables, as schema.name.
select n.nspname || '.' || c.relname as name,
    coalesce((select pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ',
            a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated,
            (select pg_catalog.string_agg(
                    pg_catalog.concat_ws(' ', p.attnum, p.attname, p.atttypid), ','
                    order by p.attnum)
                from pg_catalog.pg_type t
                join pg_catalog.pg_attribute p on p.attrelid = t.typrelid
                where t.oid in (own.oid, own.typelem) and t.typtype = 'c'
                    and p.attnum > 0 and not p.attisdropped)), ';' order by a.attnum))
        from pg_catalog.pg_attribute a
        join pg_catalog.pg_type own on own.oid = a.atttypid
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            and (a.attgenerated <> '' or exists (select from pg_catalog.pg_type t
                where t.oid in (own.oid, own.typelem) and t.typtype = 'c'))), '') as signature
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname || '.' || c.relname = any ($1::text[])
