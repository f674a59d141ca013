-- Puts discarded jobs of the last day back into the queue, as failed as they were.
-- $1 ids, or null for all of them; $2 how many at most.
with back as (
    delete from walferry.discarded_job d
    where (d.id, d.created_at) in (
        select w.id, w.created_at from walferry.discarded_job w
        where w.discarded_at > clock_timestamp() - interval '1 day'
          and ($1::bigint[] is null or w.id = any ($1))
        order by w.id limit $2
        for update skip locked)
    returning d.*)
-- begins: failed
insert into public.elasticsearch_sync_queue
    (id, table_name, operation, record_id, change_data, status, retry_count, error_message,
     created_at, processed_at, commit_lsn, ordinal, xid, note)
select id, table_name, operation, record_id, change_data, 'failed', retry_count, error_message,
    created_at, processed_at, commit_lsn, ordinal, xid, note
from back
