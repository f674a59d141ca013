-- Writes a pending job for each row of the first load whose document waits for an index. They have no
-- position, so each renders the row as it is once the index takes documents.
-- $1 table_name, $2 record ids, $3 objects of the keys' columns, $4 indices, $5 the sentences about
-- these.
-- begins: pending
with moved as (
    insert into public.elasticsearch_sync_queue
        (table_name, operation, record_id, change_data, status, note, waits_for, error_message)
    select $1, 'INSERT', r.record_id, r.key::jsonb, 'pending',
        'a row of the first load, of which change_data has the key only', r.index, r.reason
    from unnest($2::uuid[], $3::text[], $4::text[], $5::text[])
        as r (record_id, key, index, reason)
    returning status, created_at, processed_at
)
