-- The statistics. Stuck are those of the oldest 10,000 jobs `processing`: that many are bad enough,
-- and the answer must not wait. A job with a fan-out is not stuck.
select s.total_jobs, s.pending_jobs, s.processing_jobs, s.completed_jobs, s.failed_jobs,
    (select count(*) from (
         select q.status, q.started_at, q.created_at from public.elasticsearch_sync_queue q
         where q.status = 'processing' and q.created_at < now() - interval '30 s'
           and not exists (select from walferry.fanout_job f where f.job_id = q.id)
         order by q.created_at limit 10000) q
     where walferry.is_stuck(q.status, q.started_at, q.created_at)) as stuck_jobs,
    s.avg_processing_time::float8 as avg_processing_time,
    walferry.iso(s.last_processed_at) as last_processed_at
from public.get_elasticsearch_queue_stats() s
