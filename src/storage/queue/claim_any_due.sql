-- Whether jobs are due, and whether jobs of other tables are pending. It runs without a
-- transaction, so that an idle queue costs two index probes. Jobs that wait for an index are in
-- neither of these.
-- $1 names of tables.
select exists (select from walferry.due_job where table_name = any ($1)) as is_due,
    exists (select from public.elasticsearch_sync_queue
            where status = 'pending' and waits_for is null and table_name <> all ($1)) as has_unknown
