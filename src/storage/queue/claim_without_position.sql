-- Claims due jobs that are not on the stream, the oldest first: rows without a position, or with
-- one that was never recorded.
-- $1 names of tables, $2 slot, $3 jobs at most, $4 epoch.
-- Locks and the index are as in claim_after.sql. The order is that of a row, which no index has: the
-- index on status would be read over all jobs that wait for an index.
-- moves: pending -> processing
with due as materialized (
    select id, created_at from walferry.due_job
    where table_name = any ($1)
      and (ordinal is not null and (commit_lsn, ordinal) <= (
          select recorded_lsn, recorded_ordinal from walferry.position where slot = $2)) is not true
    order by (created_at, id)
    limit $3 for no key update skip locked
)
update public.elasticsearch_sync_queue q
set status = 'processing', started_at = clock_timestamp(), epoch = $4
from due
where q.id = due.id and q.created_at = due.created_at and q.status || '' = 'pending'
returning q.id, q.created_at, q.xid, q.commit_lsn, q.ordinal, q.table_name, q.operation,
    q.note, q.retry_count, q.record_id
