-- Writes a failed job for each row of the first load whose document was refused. They have
-- no position, so a retry renders the row as it is then.
-- $1 table_name, $2 record ids, $3 objects of the keys' columns, $4 errors.
-- begins: failed
with moved as (
    insert into public.elasticsearch_sync_queue
        (table_name, operation, record_id, change_data, status, retry_count, note, error_message,
         processed_at)
    select $1, 'INSERT', r.record_id, r.key::jsonb, 'failed', 1,
        'a row of the first load, of which change_data has the key only', r.error,
        clock_timestamp()
    from unnest($2::uuid[], $3::text[], $4::text[]) as r (record_id, key, error)
    returning status, created_at, processed_at
)
