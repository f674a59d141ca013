-- Adds to the counts of a writer.
-- $1 writer, $2 days since 1970-01-01, $3 statuses, $4 jobs, $5 jobs with a known time, $6 the sum
-- of their times in seconds, as text.
insert into walferry.job_count as c
    (writer, day, pending, processing, completed, failed, timed, seconds)
select $1, date '1970-01-01' + d.day,
    coalesce(sum(d.jobs) filter (where d.status = 'pending'), 0),
    coalesce(sum(d.jobs) filter (where d.status = 'processing'), 0),
    coalesce(sum(d.jobs) filter (where d.status = 'completed'), 0),
    coalesce(sum(d.jobs) filter (where d.status = 'failed'), 0),
    sum(d.timed), sum(d.seconds::numeric)
from unnest($2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])
    as d (day, status, jobs, timed, seconds)
group by 2
on conflict (writer, day) do update
    set pending = c.pending + excluded.pending, processing = c.processing + excluded.processing,
        completed = c.completed + excluded.completed, failed = c.failed + excluded.failed,
        timed = c.timed + excluded.timed, seconds = c.seconds + excluded.seconds
