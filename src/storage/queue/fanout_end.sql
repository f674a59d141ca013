-- Ends fan-outs, and the jobs that no other fan-out has; counts the jobs by day. A job of which
-- documents wait for an index waits for it, and has used up no attempt. A job whose documents were
-- refused has.
-- $1 fan-outs, $2 attempts at most, $3 and $4 the first and the longest wait in seconds.
-- The index on status is kept out as in complete_commits.sql.
-- moves: processing -> completed, processing -> pending, processing -> failed
with ended as (
    delete from walferry.fanout where id = any ($1)
), gone as (
    delete from walferry.fanout_job where fanout = any ($1)
    returning job_id, job_created_at, error, waits_for
), job as (
    select distinct on (job_id, job_created_at) job_id, job_created_at, error, waits_for
    from gone order by job_id, job_created_at, waits_for, error
), noted as (
    update walferry.fanout_job o
    set waits_for = coalesce(o.waits_for, j.waits_for),
        error = case when o.waits_for is null and j.waits_for is not null then j.error
            else coalesce(o.error, j.error) end
    from job j
    where o.job_id = j.job_id and o.fanout <> all ($1) and j.error is not null
), last as (
    select j.job_id, j.job_created_at, j.error, j.waits_for,
        j.error is not null and j.waits_for is null as is_refused
    from job j
    where not exists (select from walferry.fanout_job o
                      where o.job_id = j.job_id and o.fanout <> all ($1))
), moved as (
    update public.elasticsearch_sync_queue q
    set status = case when l.waits_for is not null then 'pending'
            when l.error is null then 'completed'
            else walferry.status_after(walferry.attempt(q.retry_count), $2) end,
        processed_at = case
            when l.error is null
                or (l.is_refused and walferry.attempt(q.retry_count) >= $2)
            then clock_timestamp() end,
        next_attempt_at = case when l.is_refused
            then walferry.next_attempt(walferry.attempt(q.retry_count), $2, $3, $4) end,
        retry_count = case when l.is_refused then walferry.attempt(q.retry_count)
            else q.retry_count end,
        started_at = case when l.error is null then q.started_at end,
        epoch = case when l.error is null then q.epoch end,
        waits_for = l.waits_for,
        error_message = l.error
    from last l
    where q.status || '' = 'processing' and q.id = l.job_id and q.created_at = l.job_created_at
    returning q.status, q.created_at, q.processed_at
)
