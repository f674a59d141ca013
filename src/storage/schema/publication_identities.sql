-- The table and those of its partitions whose replica identity is not FULL, quoted.
-- $1 the table's object id.
select format('%I.%I', n.nspname, c.relname) as name
from (select $1::oid union select relid::oid from pg_partition_tree($1::oid::regclass)) t (oid)
join pg_class c on c.oid = t.oid
join pg_namespace n on n.oid = c.relnamespace
where c.relreplident <> 'f' order by 1
