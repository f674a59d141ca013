-- A replication slot, and the end of the server's WAL; no row where there is no such slot.
-- $1 the slot's name.
-- Columns that not every version has are read through jsonb.
select s.plugin::text, s.database::text,
    coalesce(s.database = pg_catalog.current_database(), false) as is_of_this_database,
    s.active as is_active, s.active_pid, s.confirmed_flush_lsn, s.restart_lsn, s.wal_status,
    s.safe_wal_size,
    pg_catalog.to_jsonb(s) ->> 'invalidation_reason' as invalidation_reason,
    coalesce((pg_catalog.to_jsonb(s) ->> 'synced')::boolean, false) as is_synced,
    case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_receive_lsn()
        else pg_catalog.pg_current_wal_lsn() end as wal_lsn
from pg_catalog.pg_replication_slots s
where s.slot_name = $1
