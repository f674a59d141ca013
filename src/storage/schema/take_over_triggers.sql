-- The original system's triggers on some tables, quoted. Clones on partitions follow their parent.
-- Disabling takes no stronger lock than the one that is held; dropping would wait for readers.
-- $1 the tables, quoted, $2 whether only disabled triggers count.
select format('%I', t.tgname) as name, t.tgrelid::regclass::text as table_name
from pg_trigger t
where t.tgfoid in (select oid from pg_proc
                   where proname = 'add_to_elasticsearch_queue' and pronargs = 0)
  and t.tgrelid in (select tree.relid from unnest($1::text[]) name
                    cross join pg_partition_tree(name::regclass) tree
                    union select name::regclass from unnest($1::text[]) name)
  and t.tgparentid = 0 and not t.tgisinternal and (t.tgenabled = 'D' or not $2)
order by 2, 1
