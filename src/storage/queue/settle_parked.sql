-- Writes a job for each row of a load or a backfill that waits for an index. They have no position, so the row
-- is rendered as it is once the index takes documents.
-- $1 table_name, $2 operation, $3 record ids, $4 objects of the keys' columns, $5 note, $6 indices,
-- $7 the sentences about these.
-- begins: pending
with moved as (
    insert into public.elasticsearch_sync_queue
        (table_name, operation, record_id, change_data, status, note, waits_for, error_message)
    select $1, $2, r.record_id, r.key::jsonb, 'pending', $5, r.index, r.reason
    from unnest($3::uuid[], $4::text[], $6::text[], $7::text[])
        as r (record_id, key, index, reason)
    returning status, created_at, processed_at
)
