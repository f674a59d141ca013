-- Completes jobs by id, and counts them by day.
-- $1 ids, $2 and $3 the earliest and the latest commit time.
-- The index on status is kept out as in complete_commits.sql.
-- moves: processing -> completed
with moved as (
    update public.elasticsearch_sync_queue
    set status = 'completed', processed_at = clock_timestamp(), error_message = null
    where status || '' = 'processing' and id = any ($1)
      and created_at >= $2 and created_at <= $3
    returning status, created_at, processed_at
)
