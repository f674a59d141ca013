-- Moves a backfill on. Its chunks settle in order. What was on its way when it was paused or
-- cancelled counts too.
-- $1 slot, $2 operation, $3 the last key of the chunk (null: all is done), $4 rows settled, $5 rows
-- of the chunk that were refused.
update walferry.operation
set last_key = coalesce($3::text, last_key), row_count = greatest(row_count, $4),
    refused_count = refused_count + $5, waits_for = null,
    state = case when $3::text is null and state <> 'cancelled' then 'completed' else state end,
    ended_at = case when $3::text is null then coalesce(ended_at, clock_timestamp())
        else ended_at end
where slot = $1 and id = $2 and row_count <= $4
