-- Fan-outs that are not finished, in the order in which they began.
-- $1 slot, $2 the last id that is known.
select f.id, f.changed_table, f.table_name, f.column_name, f.is_path,
    f.group_numbers::text as group_numbers, f.commit_lsns, f.ordinals, f.last_key, f.row_count
from walferry.fanout f
where f.slot = $1 and f.id > $2
order by f.id
