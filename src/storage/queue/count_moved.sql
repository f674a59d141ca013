-- The end of a statement that moves jobs, as `moved`: it counts them by day and status.
-- No parameters.
select m.day - date '1970-01-01' as day, m.status, count(*) as jobs, count(m.micros) as timed,
    (coalesce(sum(m.micros), 0) * 0.000001)::text as seconds
from (
    select status, walferry.job_day(created_at) as day,
        walferry.job_micros(status, created_at, processed_at) as micros
    from moved offset 0
) m
group by m.day, m.status
