-- The table and those of its partitions whose replica identity has to be set, quoted, with the
-- identity that serves: FULL; or DEFAULT where PostgreSQL 18 would refuse every UPDATE and DELETE of
-- the application, because generated columns that are not published would be part of it.
-- $1 the table's object id, $2 publication.
with part as (
    select c.oid, format('%I.%I', n.nspname, c.relname) as name, c.relreplident,
        exists (select from pg_attribute a
            where a.attrelid = c.oid and not a.attisdropped and (a.attgenerated = 'v'
                or a.attgenerated = 's' and not exists (select from pg_publication p
                    where p.pubname = $2 and to_jsonb(p) ->> 'pubgencols' = 's')))
        and current_setting('server_version_num')::int >= 180000 as excludes_full
    from (select $1::oid union select relid::oid from pg_partition_tree($1::oid::regclass)) t (oid)
    join pg_class c on c.oid = t.oid
    join pg_namespace n on n.oid = c.relnamespace
)
select name, case when excludes_full then 'default' else 'full' end as identity
from part
where case when excludes_full then relreplident in ('f', 'n') else relreplident <> 'f' end
order by 1
