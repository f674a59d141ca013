-- Numbers new jobs past every number that was given out, also to rows that are gone.
select setval('public.elasticsearch_sync_queue_id_seq', greatest(
    (select max(id) from walferry.original_queue),
    pg_sequence_last_value(pg_get_serial_sequence('walferry.original_queue', 'id')::regclass),
    1))
