-- Counts a failed attempt of jobs by position, and counts the jobs by day: they are pending again
-- after a wait, or failed.
-- $1 attempts at most, $2 and $3 the first and the longest wait in seconds, $4 and $5 positions,
-- $6 their errors, $7 and $8 the earliest and the latest commit time.
-- The index on status is kept out as in complete_commits.sql.
-- moves: processing -> pending, processing -> failed
with moved as (
    update public.elasticsearch_sync_queue q
    set status = walferry.status_after(walferry.attempt(q.retry_count), $1),
        processed_at = case when walferry.attempt(q.retry_count) >= $1 then clock_timestamp() end,
        next_attempt_at = walferry.next_attempt(walferry.attempt(q.retry_count), $1, $2, $3),
        retry_count = walferry.attempt(q.retry_count),
        started_at = null, epoch = null, error_message = f.error
    from unnest($4::pg_lsn[], $5::bigint[], $6::text[]) as f (commit_lsn, ordinal, error)
    where q.status || '' = 'processing'
      and q.commit_lsn = f.commit_lsn and q.ordinal = f.ordinal
      and q.created_at >= $7 and q.created_at <= $8
    returning q.status, q.created_at, q.processed_at
)
