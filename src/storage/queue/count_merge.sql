-- Merges the counts of all writers into one row a day. Rows that a transaction holds keep their
-- place: any subset has its own sum.
with chosen as (
    select writer, day from walferry.job_count
    where writer <> 'merged'
    for update skip locked
), gone as (
    delete from walferry.job_count c using chosen
    where c.writer = chosen.writer and c.day = chosen.day returning c.*
)
insert into walferry.job_count as c
    (writer, day, pending, processing, completed, failed, timed, seconds)
select 'merged', day, sum(pending), sum(processing), sum(completed), sum(failed), sum(timed),
    sum(seconds)
from gone group by day
on conflict (writer, day) do update
    set pending = c.pending + excluded.pending, processing = c.processing + excluded.processing,
        completed = c.completed + excluded.completed, failed = c.failed + excluded.failed,
        timed = c.timed + excluded.timed, seconds = c.seconds + excluded.seconds
