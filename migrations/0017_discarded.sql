-- Jobs that an operator discarded, for a day, so that a discard can be undone. Rows hold change_data as
-- the queue does, so nobody but the role that runs walferry reads them.

create table walferry.discarded_job (
    discarded_at  timestamptz not null default clock_timestamp(),
    id            bigint not null,
    table_name    varchar(100) not null,
    operation     varchar(20) not null,
    record_id     uuid not null,
    change_data   jsonb not null,
    retry_count   integer,
    error_message text,
    created_at    timestamptz not null,
    processed_at  timestamptz,
    commit_lsn    pg_lsn,
    ordinal       bigint,
    xid           bigint,
    note          text,
    constraint discarded_job_pkey primary key (id, created_at)
);

-- For dropping what is older than a day.
create index discarded_job_discarded_at on walferry.discarded_job (discarded_at);

alter table walferry.discarded_job enable row level security;
revoke all on walferry.discarded_job from public;
