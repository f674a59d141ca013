-- Makes the sequence of ids one of the column: else it would stay behind under the name that is
-- needed.
do $$
begin
    if pg_get_serial_sequence('public.elasticsearch_sync_queue', 'id') is null
       and to_regclass('public.elasticsearch_sync_queue_id_seq') is not null then
        alter sequence public.elasticsearch_sync_queue_id_seq
            owned by public.elasticsearch_sync_queue.id;
    end if;
end $$
