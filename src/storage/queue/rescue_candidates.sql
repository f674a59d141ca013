-- Jobs that may be stuck, the oldest first. A job with a fan-out is not: the fan-out is resumed.
-- $1 seconds after which a job is stuck, $2 attempts from which on it is stuck at once, $3 jobs at
-- most.
select id, created_at, started_at, commit_lsn, ordinal
from public.elasticsearch_sync_queue q
where status = 'processing'
  and (coalesce(started_at, created_at) < clock_timestamp() - make_interval(secs => $1)
       or coalesce(started_at, created_at) > clock_timestamp() + make_interval(secs => $1)
       or coalesce(retry_count, 0) >= $2)
  and not exists (select from walferry.fanout_job f where f.job_id = q.id)
order by created_at
limit $3
