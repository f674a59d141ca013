-- How many jobs the counts are off by, a status at a time. Adding what they are off by needs no
-- lock against writers: each transaction commits both jobs and counts, or neither.
-- $1 whether to add it.
with drift as materialized (
    select day, pending, processing, completed, failed, timed, seconds
    from walferry.job_count_drift
), written as (
    insert into walferry.job_count as c
        (writer, day, pending, processing, completed, failed, timed, seconds)
    select 'recount', day, pending, processing, completed, failed, timed, seconds from drift
    where $1 and (pending, processing, completed, failed, timed, seconds) <> (0, 0, 0, 0, 0, 0)
    on conflict (writer, day) do update
        set pending = c.pending + excluded.pending, processing = c.processing + excluded.processing,
            completed = c.completed + excluded.completed, failed = c.failed + excluded.failed,
            timed = c.timed + excluded.timed, seconds = c.seconds + excluded.seconds
    returning 1
)
select coalesce(sum(abs(pending) + abs(processing) + abs(completed) + abs(failed)), 0)::bigint
    as jobs_off
from drift
