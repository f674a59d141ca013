-- A job with all that is known of it but its change.
-- $1 id.
select q.id, q.table_name, q.operation, q.record_id::text as record_id, q.status,
    coalesce(q.retry_count, 0) as retry_count, q.error_message, q.note,
    walferry.iso(q.created_at) as created_at, walferry.iso(q.processed_at) as processed_at,
    q.commit_lsn, q.ordinal, q.xid, walferry.iso(q.started_at) as started_at,
    walferry.iso(q.next_attempt_at) as next_attempt_at, q.epoch,
    (extract(epoch from q.started_at - q.created_at) * 1000)::float8 as waited_ms,
    (extract(epoch from q.processed_at - q.started_at) * 1000)::float8 as worked_ms,
    (extract(epoch from q.processed_at - q.created_at) * 1000)::float8 as total_ms,
    (walferry.is_stuck(q.status, q.started_at, q.created_at)
     and not exists (select from walferry.fanout_job f where f.job_id = q.id)) as is_stuck
from public.elasticsearch_sync_queue q
where q.id = $1
order by q.created_at desc
limit 1
