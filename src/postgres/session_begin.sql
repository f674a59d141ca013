-- The first statement of a session. transaction_timeout is a setting of version 17 and later, so it
-- cannot be among the start-up settings. The result says whether the server takes writes.
select
    pg_catalog.pg_is_in_recovery() as is_standby,
    case when pg_catalog.current_setting('default_transaction_read_only') = 'on' then
        (select s.source from pg_catalog.pg_settings s
            where s.name = 'default_transaction_read_only')
    end as read_only_by,
    (select pg_catalog.set_config('transaction_timeout', '0', false)
        where pg_catalog.current_setting('transaction_timeout', true) <> '0') as without_timeout
