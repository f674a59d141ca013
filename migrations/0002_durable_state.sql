-- What walferry must still know after it died, a row per slot. These rows are written several
-- times a second: pages stay half empty so that each update is HOT, and vacuum comes early.

create table walferry.lease (
    slot          text primary key,
    -- Raised by each new holder; a transaction of an older one finds no row.
    epoch         bigint not null default 0,
    holder        text not null default '',
    backend_pid   integer,
    backend_start timestamptz,
    expires_at    timestamptz not null default '-infinity'
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

create table walferry.position (
    slot              text primary key,
    system_identifier text not null,
    timeline          integer not null,
    -- Raised by every rebuild from the tables.
    generation        integer not null default 1,
    -- The last change that is recorded.
    recorded_lsn      pg_lsn not null default '0/0',
    recorded_ordinal  bigint not null default 0,
    -- The end of the last commit that is recorded as a whole.
    recorded_end_lsn  pg_lsn not null default '0/0'
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

create table walferry.settlement (
    slot           text primary key,
    -- Below this everything is settled.
    settled_lsn    pg_lsn not null default '0/0',
    -- Documents may have been rendered from reads up to here.
    read_ahead_lsn pg_lsn not null default '0/0'
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- Progress of the first load.
create table walferry.load (
    slot        text not null,
    -- `schema.name`.
    table_name  text not null,
    -- The indices that the load fills: another index is another load.
    index_uuids text[] not null,
    -- The insert LSN that the load stands for.
    load_lsn    pg_lsn not null,
    -- The first transaction that had not begun at `load_lsn`, 64 bits.
    load_xmax   bigint,
    -- The last key read, as a JSON array of the key's columns.
    last_key    text,
    row_count   bigint not null default 0,
    done_at     timestamptz,
    primary key (slot, table_name)
) with (fillfactor = 50);
