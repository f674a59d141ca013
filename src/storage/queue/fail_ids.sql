-- Counts a failed attempt of jobs by id, and counts the jobs by day: they are pending again after
-- a wait, or failed.
-- $1 attempts at most, $2 and $3 the first and the longest wait in seconds, $4 ids, $5 their
-- errors, $6 and $7 the earliest and the latest commit time.
-- The index on status is kept out as in complete_commits.sql.
-- moves: processing -> pending, processing -> failed
with moved as (
    update public.elasticsearch_sync_queue q
    set status = walferry.status_after(walferry.attempt(q.retry_count), $1),
        processed_at = case when walferry.attempt(q.retry_count) >= $1 then clock_timestamp() end,
        next_attempt_at = walferry.next_attempt(walferry.attempt(q.retry_count), $1, $2, $3),
        retry_count = walferry.attempt(q.retry_count),
        started_at = null, epoch = null, error_message = f.error
    from unnest($4::bigint[], $5::text[]) as f (id, error)
    where q.status || '' = 'processing' and q.id = f.id
      and q.created_at >= $6 and q.created_at <= $7
    returning q.status, q.created_at, q.processed_at
)
