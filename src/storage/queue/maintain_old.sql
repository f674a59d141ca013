-- Parts whose whole day is before the first day that is kept, oldest first.
-- $1 the first day that is kept, as text.
select part::text as part, day::text as day from walferry.queue_partition
where day < $1::text::date
order by 1
