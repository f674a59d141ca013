-- Deletes some of the finished jobs, those that ended first.
--
-- $1 bigint  the number of jobs at most
--
-- Rows are found again by the key: an estimate of few rows would pair all with all, so the
-- expression `status || ''` keeps the index on the status out.
with chosen as materialized (
    select id, created_at from public.elasticsearch_sync_queue
    where status in ('completed', 'failed')
    order by processed_at limit $1
    for no key update skip locked)
delete from public.elasticsearch_sync_queue q using chosen
where q.id = chosen.id and q.created_at = chosen.created_at
  and q.status || '' in ('completed', 'failed')
