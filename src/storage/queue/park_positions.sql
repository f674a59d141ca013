-- Makes jobs by position `pending` that wait for an index, and counts them by day. This is no
-- attempt.
-- $1 and $2 positions, $3 their indices, $4 the sentences about these, $5 and $6 the earliest and
-- the latest commit time.
-- The index on status is kept out as in complete_commits.sql.
-- moves: processing -> pending
with moved as (
    update public.elasticsearch_sync_queue q
    set status = 'pending', processed_at = null, started_at = null, epoch = null,
        next_attempt_at = null, waits_for = f.index, error_message = f.reason
    from unnest($1::pg_lsn[], $2::bigint[], $3::text[], $4::text[])
        as f (commit_lsn, ordinal, index, reason)
    where q.status || '' = 'processing'
      and q.commit_lsn = f.commit_lsn and q.ordinal = f.ordinal
      and q.created_at >= $5 and q.created_at <= $6
    returning q.status, q.created_at, q.processed_at
)
