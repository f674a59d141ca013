-- How the queue is, but for its counts.
-- $1 slot.
-- Each oldest job stands at the front of the index on status and commit time. A job that says that
-- it was committed before all time is not late, nor is a job whose documents were sent but for its
-- fan-out.
with oldest as (
    select
        (select q.created_at from public.elasticsearch_sync_queue q
         where isfinite(q.created_at) and q.status = 'pending'
         order by q.created_at limit 1) as pending,
        (select q.created_at from public.elasticsearch_sync_queue q
         where isfinite(q.created_at) and q.status = 'pending'
           and (q.next_attempt_at is null or q.next_attempt_at < now() - interval '5 s')
         order by q.created_at limit 1) as due,
        (select q.created_at from public.elasticsearch_sync_queue q
         where isfinite(q.created_at) and q.status = 'processing'
           and not exists (select from walferry.fanout_job f where f.job_id = q.id)
         order by q.created_at limit 1) as processing,
        (select q.created_at from public.elasticsearch_sync_queue q
         where isfinite(q.created_at) and q.status = 'failed'
         order by q.created_at limit 1) as failed
)
select walferry.iso(least(o.due, o.processing)) as unfinished_since,
    extract(epoch from clock_timestamp() - least(o.due, o.processing))::float8 as unfinished_age,
    extract(epoch from clock_timestamp() - o.pending)::float8 as pending_age,
    extract(epoch from clock_timestamp() - o.processing)::float8 as processing_age,
    extract(epoch from clock_timestamp() - o.failed)::float8 as failed_age,
    coalesce(c.indexing, true) as indexing, walferry.iso(c.changed_at) as chosen_at,
    coalesce((select s.settled_lsn from walferry.settlement s where s.slot = n.slot), '0/0')
        as settled_lsn,
    coalesce((select q.id from public.elasticsearch_sync_queue q order by q.id desc limit 1), 0)
        as newest_id,
    array(select q.id from public.elasticsearch_sync_queue q
          where q.status in ('completed', 'failed') and q.processed_at > now() - interval '2 s'
          order by q.processed_at desc limit 100) as ended_ids
from oldest o
cross join (select $1::text as slot) n
left join walferry.control c on c.slot = n.slot
