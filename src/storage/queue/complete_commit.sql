-- Completes the jobs of a range within one commit, and counts them by day.
-- $1 the commit, $2 and $3 the first and the last ordinal, $4 and $5 the earliest and the latest
-- commit time.
-- Equality keeps the plan on the index of positions, as in complete_commits.sql.
-- moves: processing -> completed
with moved as (
    update public.elasticsearch_sync_queue
    set status = 'completed', processed_at = clock_timestamp(), error_message = null
    where status || '' = 'processing'
      and commit_lsn = $1 and ordinal >= $2 and ordinal <= $3
      and created_at >= $4 and created_at <= $5
    returning status, created_at, processed_at
)
