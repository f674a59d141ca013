-- Moves the first load of a table on. Chunks settle in the order of the table's key, so the last
-- one given is the furthest.
-- $1 slot, $2 table, $3 the last key of the chunk (null: the load is done), $4 rows settled.
update walferry.load
set last_key = $3::text, row_count = greatest(row_count, $4),
    done_at = case when $3::text is null then clock_timestamp() end
where slot = $1 and table_name = $2
