-- Operations that an operator asks for, and that the running process does beside the stream: one at
-- a time, the oldest first. An operation is resumed after a crash or a stop from the last chunk that
-- settled, since its progress is stored in the transaction that settles the chunk.

create table walferry.operation (
    id             bigint generated always as identity primary key,
    slot           text not null,
    kind           text not null,
    -- `schema.name` of the table whose documents are rendered.
    table_name     text not null,
    -- SQL on the table's columns; null for all rows.
    condition      text,
    -- An array of keys, each an array of the key columns' texts; null for those of the table.
    keys           jsonb,
    -- Rows in a second; null for no limit.
    rate_max       integer,
    state          text not null default 'queued',
    requested_by   text not null,
    -- What the operation waits for; null while it goes on.
    waits_for      text,
    -- Rows that there are, as PostgreSQL's planner estimates or as counted.
    row_estimate   bigint not null,
    -- The last key of which all is settled, as a JSON array; null at the start.
    last_key       text,
    -- Rows settled, and those of them that Elasticsearch refused.
    row_count      bigint not null default 0,
    refused_count  bigint not null default 0,
    error          text,
    created_at     timestamptz not null default clock_timestamp(),
    started_at     timestamptz,
    ended_at       timestamptz,
    constraint operation_kind check (kind in ('backfill', 'verify')),
    constraint operation_state check (
        state in ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled'))
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- The next operation is found by it.
create index operation_open on walferry.operation (slot, id) where state in ('queued', 'running');

revoke all on walferry.operation from public;
