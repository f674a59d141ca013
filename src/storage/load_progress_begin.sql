-- Begins the load of a table, in place of an older one.
-- $1 slot, $2 table, $3 uuids of the indices, $4 the position that the load stands for, $5 the
-- first transaction that had not begun there, $6 the last key, $7 rows settled, $8 whether it is
-- done.
insert into walferry.load
    (slot, table_name, index_uuids, load_lsn, load_xmax, last_key, row_count, done_at)
values ($1, $2, $3, $4, $5, $6, $7, case when $8 then clock_timestamp() end)
on conflict (slot, table_name) do update
    set index_uuids = excluded.index_uuids, load_lsn = excluded.load_lsn,
        load_xmax = excluded.load_xmax, last_key = excluded.last_key,
        row_count = excluded.row_count, done_at = excluded.done_at
