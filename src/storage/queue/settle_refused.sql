-- Writes a failed job for each row of the first load, or of a backfill, whose document was refused.
-- They have no position, so a retry renders the row as it is then.
-- $1 table_name, $2 operation, $3 record ids, $4 objects of the keys' columns, $5 note, $6 errors.
-- begins: failed
with moved as (
    insert into public.elasticsearch_sync_queue
        (table_name, operation, record_id, change_data, status, retry_count, note, error_message,
         processed_at)
    select $1, $2, r.record_id, r.key::jsonb, 'failed', 1, $5, r.error, clock_timestamp()
    from unnest($3::uuid[], $4::text[], $6::text[]) as r (record_id, key, error)
    returning status, created_at, processed_at
)
