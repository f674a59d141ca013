-- Queues a backfill.
-- $1 slot, $2 table, $3 condition, $4 keys, $5 rows in a second, $6 who asks, $7 rows that there are.
insert into walferry.operation
    (slot, kind, table_name, condition, keys, rate_max, requested_by, row_estimate)
values ($1, 'backfill', $2, $3, $4::text::jsonb, $5, $6, $7)
returning id
