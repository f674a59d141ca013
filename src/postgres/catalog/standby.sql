-- `synchronous_standby_names`, and the WAL senders that fulfil it.
-- $1 the application name of the own WAL sender.
-- Without pg_monitor, the columns of other roles' senders are null: such senders do not count.
select pg_catalog.current_setting('synchronous_standby_names') as names,
    array(select r.sync_priority from pg_catalog.pg_stat_replication r
        where r.sync_state = 'sync' and r.application_name not like 'walferry/%') as other_priorities,
    (select r.sync_state from pg_catalog.pg_stat_replication r
        where r.application_name = $1 limit 1) as own_state
