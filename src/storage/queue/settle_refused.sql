-- Writes a failed job for each row of the first load whose document was refused, and counts the
-- jobs by day. They have no position, so a retry renders the row as it is then.
-- $1 table_name, $2 record ids, $3 objects of the keys' columns, $4 errors.
-- begins: failed
with begun as (
    insert into public.elasticsearch_sync_queue
        (table_name, operation, record_id, change_data, status, retry_count, note, error_message,
         processed_at)
    select $1, 'INSERT', r.record_id, r.key::jsonb, 'failed', 1,
        'a row of the first load, of which change_data has the key only', r.error,
        clock_timestamp()
    from unnest($2::uuid[], $3::text[], $4::text[]) as r (record_id, key, error)
    returning status, created_at, processed_at
)
select m.day - date '1970-01-01' as day, m.status, count(*) as jobs, count(m.micros) as timed,
    (coalesce(sum(m.micros), 0) * 0.000001)::text as seconds
from (
    select status, walferry.job_day(created_at) as day,
        walferry.job_micros(status, created_at, processed_at) as micros
    from begun offset 0
) m
group by m.day, m.status
