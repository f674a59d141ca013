-- Fails pending jobs of tables that the definition does not have: no run could do them.
-- $1 names of tables.
-- moves: pending -> failed
update public.elasticsearch_sync_queue q
set status = 'failed', processed_at = clock_timestamp(), next_attempt_at = null,
    error_message = format('table %s is not in the definition of documents; add it there and '
        'retry this job, or clear it', q.table_name)
where q.status = 'pending' and (q.id, q.created_at) in (
    select id, created_at from public.elasticsearch_sync_queue
    where status = 'pending' and waits_for is null and table_name <> all ($1)
    limit 10000 for no key update skip locked)
