-- Jobs that may be stuck, the oldest first.
-- $1 seconds after which a job is stuck, $2 attempts from which on it is stuck at once, $3 jobs at
-- most.
select id, created_at, started_at, commit_lsn, ordinal
from public.elasticsearch_sync_queue
where status = 'processing'
  and (coalesce(started_at, created_at) < clock_timestamp() - make_interval(secs => $1)
       or coalesce(started_at, created_at) > clock_timestamp() + make_interval(secs => $1)
       or coalesce(retry_count, 0) >= $2)
order by created_at
limit $3
