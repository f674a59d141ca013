-- Moves stuck jobs that are still as they were read, except those whose rows other transactions
-- have locked.
-- $1 ids, $2 commit times, $3 start times as they were read, $4 attempts at most.
-- moves: processing -> pending, processing -> failed
with stuck as (
    select q.id, q.created_at
    from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[])
        as f (id, created_at, started_at)
    join public.elasticsearch_sync_queue q on q.id = f.id and q.created_at = f.created_at
    where q.status || '' = 'processing' and q.started_at is not distinct from f.started_at
    for no key update of q skip locked
), moved as (
    update public.elasticsearch_sync_queue q
    set status = case when coalesce(q.retry_count, 0) >= $4 then 'failed' else 'pending' end,
        processed_at = clock_timestamp(), started_at = null, epoch = null,
        next_attempt_at = null,
        error_message = case when coalesce(q.retry_count, 0) >= $4
            then format('Max retries exceeded (%s/%s)', q.retry_count, $4)
            else format('Reset from stuck state after %sms', case
                when isfinite(q.created_at) then trunc(1000
                    * extract(epoch from clock_timestamp() - q.created_at)) end)
            end
    from stuck s
    where q.id = s.id and q.created_at = s.created_at
    returning q.status
)
select count(*) filter (where status = 'pending') as reset,
    count(*) filter (where status = 'failed') as failed
from moved
