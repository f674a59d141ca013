-- Fan-outs in the background: rows whose documents are rewritten because they show rows that
-- changed. A fan-out begins in the transaction that settles the batch of its changes, and ends in
-- the transaction that settles its last chunk. Its jobs stay `processing` meanwhile.

create table walferry.fanout (
    id            bigint generated always as identity primary key,
    slot          text not null,
    -- `schema.name` of the table whose rows changed.
    changed_table text not null,
    -- `schema.name` of the table whose rows are rewritten, and its column that refers to the others.
    table_name    text not null,
    column_name   text not null,
    -- The documents show the path of the changed rows.
    is_path       boolean not null,
    -- An object: the values of the column, each with the numbers of its groups of jobs. Null: all
    -- rows, for group 0.
    group_numbers jsonb,
    -- By number of the group, from 0 on: the position of the last change of a row.
    commit_lsns   pg_lsn[] not null,
    ordinals      bigint[] not null,
    -- The last key of which all is settled, as a JSON array of the key's columns; null at the start.
    last_key      text,
    -- Rows settled.
    row_count     bigint not null default 0,
    begun_at      timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- The jobs of fan-outs. A job ends with the last fan-out that has it.
create table walferry.fanout_job (
    fanout         bigint not null,
    group_number   integer not null,
    job_id         bigint not null,
    job_created_at timestamptz not null,
    -- The first document that Elasticsearch refused, and why.
    error          text,
    primary key (fanout, group_number, job_id)
);

create index fanout_job_of on walferry.fanout_job (job_id);

revoke all on walferry.fanout, walferry.fanout_job from public;
