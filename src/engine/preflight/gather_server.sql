-- The server's settings, as far as they matter to a run.
select current_setting('server_version_num')::int as version,
    pg_is_in_recovery() as is_standby,
    (select source from pg_settings
        where name = 'default_transaction_read_only' and setting = 'on') as read_only_by,
    inet_server_port() as port,
    current_database()::text as database,
    current_setting('row_security') = 'off' as settings_kept,
    current_setting('wal_level') as wal_level,
    current_setting('max_replication_slots')::bigint as slots_max,
    current_setting('max_wal_senders')::bigint as senders_max,
    (select count(*) from pg_stat_replication) as senders_used,
    (select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size')
        as slot_wal_keep_mib,
    (select setting::bigint from pg_settings where name = 'idle_replication_slot_timeout')
        as idle_slot_timeout
