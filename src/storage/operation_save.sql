-- Stores how far a verification has come, and what it has found. One that was cancelled or paused
-- meanwhile keeps its state.
-- $1 slot, $2 operation, $3 the last key, $4 rows and $5 documents compared, $6 missing, $7 stale,
-- $8 orphaned, $9 repaired, $10 undecided, $11 the first findings, $12 the walk, $13 all is done.
update walferry.operation
set last_key = coalesce($3::text, last_key), row_count = $4, document_count = $5,
    missing_count = $6, stale_count = $7, orphan_count = $8, repaired_count = $9,
    undecided_count = $10, findings = $11, walk = $12, waits_for = null,
    state = case when $13 and state = 'running' then 'completed' else state end,
    ended_at = case when $13 and state = 'running' then clock_timestamp() else ended_at end
where slot = $1 and id = $2
