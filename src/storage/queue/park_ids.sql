-- Makes jobs by id `pending` that wait for an index, and counts them by day. This is no attempt.
-- $1 ids, $2 their indices, $3 the sentences about these, $4 and $5 the earliest and the latest
-- commit time.
-- The index on status is kept out as in complete_commits.sql.
-- moves: processing -> pending
with moved as (
    update public.elasticsearch_sync_queue q
    set status = 'pending', processed_at = null, started_at = null, epoch = null,
        next_attempt_at = null, waits_for = f.index, error_message = f.reason
    from unnest($1::bigint[], $2::text[], $3::text[]) as f (id, index, reason)
    where q.status || '' = 'processing' and q.id = f.id
      and q.created_at >= $4 and q.created_at <= $5
    returning q.status, q.created_at, q.processed_at
)
