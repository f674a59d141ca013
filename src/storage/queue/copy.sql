-- The columns that the recorder writes, in the order of `copy::row`. The other columns take their
-- defaults.
-- begins: pending, processing
copy public.elasticsearch_sync_queue (table_name, operation, record_id, change_data, status, note,
    created_at, commit_lsn, ordinal, xid, started_at, epoch)
from stdin (format binary)
