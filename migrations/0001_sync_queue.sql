-- The queue table under its original name, columns and meanings, partitioned by day.
-- The parts live in `walferry`, a schema that no API role can read.

create sequence public.elasticsearch_sync_queue_id_seq as bigint;

create table public.elasticsearch_sync_queue (
    id              bigint not null default nextval('public.elasticsearch_sync_queue_id_seq'),
    table_name      varchar(100) not null,
    operation       varchar(20) not null,
    record_id       uuid not null,
    change_data     jsonb not null,
    status          varchar(20) not null default 'pending',
    retry_count     integer default 0,
    error_message   text,
    created_at      timestamptz not null default now(),
    processed_at    timestamptz,
    -- Null in rows that something else inserted.
    commit_lsn      pg_lsn,
    ordinal         bigint,
    -- 64 bits, the epoch included.
    xid             bigint,
    started_at      timestamptz,
    -- A job in back-off is not due before this.
    next_attempt_at timestamptz,
    -- The lease under which the job is being processed.
    epoch           bigint,
    constraint elasticsearch_sync_queue_pkey primary key (id, created_at),
    -- The second line against a change recorded twice, and the order of the table feed.
    constraint elasticsearch_sync_queue_position_key unique (commit_lsn, ordinal, created_at),
    constraint elasticsearch_sync_queue_status_check
        check (status in ('pending', 'processing', 'completed', 'failed'))
) partition by range (created_at);

alter sequence public.elasticsearch_sync_queue_id_seq
    owned by public.elasticsearch_sync_queue.id;

-- Over 2 kB the built-in pglz is what a row costs most.
do $$
begin
    if (select 'lz4' = any (enumvals) from pg_catalog.pg_settings
        where name = 'default_toast_compression') then
        alter table public.elasticsearch_sync_queue
            alter column change_data set compression lz4;
    end if;
end
$$;

-- History of one row.
create index idx_elasticsearch_sync_queue_table_record
    on public.elasticsearch_sync_queue (table_name, record_id);
-- What is unfinished, oldest first. Completed jobs are nearly all rows and nobody looks for them
-- by status alone, so they stay out.
create index idx_elasticsearch_sync_queue_status_created
    on public.elasticsearch_sync_queue (status, created_at) where status <> 'completed';
-- Dead letters by number of attempts.
create index idx_elasticsearch_sync_queue_retry_count
    on public.elasticsearch_sync_queue (retry_count) where status = 'failed';

alter table public.elasticsearch_sync_queue enable row level security;

create table walferry.queue_default
    partition of public.elasticsearch_sync_queue default;
alter table walferry.queue_default enable row level security;

-- Makes the parts for yesterday to `days_ahead` days from today (UTC) that do not exist, and
-- moves rows of such a day out of the default part. Returns how many it made.
create function walferry.make_partitions(days_ahead integer) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
declare
    today date := (clock_timestamp() at time zone 'UTC')::date;
    part_day date;
    part text;
    made integer := 0;
begin
    for part_day in select today + n from generate_series(-1, days_ahead) n loop
        part := 'queue_p' || to_char(part_day, 'YYYYMMDD');
        continue when to_regclass('walferry.' || part) is not null;
        -- One maker at a time; reads and writes of the queue go on.
        lock table public.elasticsearch_sync_queue in share update exclusive mode;
        continue when to_regclass('walferry.' || part) is not null;
        execute format('create table walferry.%I (like public.elasticsearch_sync_queue including all)', part);
        execute format('alter table walferry.%I enable row level security', part);
        execute format('revoke all on walferry.%I from public', part);
        -- From here to the commit nothing can be written to, or read from, the default part.
        lock table walferry.queue_default in access exclusive mode;
        execute format(
            'with moved as (delete from walferry.queue_default'
            || ' where created_at >= %L and created_at < %L returning *)'
            || ' insert into walferry.%I select * from moved',
            part_day::timestamptz, (part_day + 1)::timestamptz, part);
        execute format(
            'alter table public.elasticsearch_sync_queue attach partition walferry.%I'
            || ' for values from (%L) to (%L)',
            part, part_day::timestamptz, (part_day + 1)::timestamptz);
        made := made + 1;
    end loop;
    return made;
end
$$;

revoke all on function walferry.make_partitions(integer) from public;
revoke all on public.elasticsearch_sync_queue, walferry.queue_default from public;
revoke all on sequence public.elasticsearch_sync_queue_id_seq from public;

-- The roles of an API in front of the database; `change_data` holds private columns.
do $$
declare
    api_role text;
begin
    for api_role in
        select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated')
    loop
        execute format('revoke all on public.elasticsearch_sync_queue, walferry.queue_default from %I', api_role);
        execute format('revoke all on sequence public.elasticsearch_sync_queue_id_seq from %I', api_role);
    end loop;
end
$$;

comment on table public.elasticsearch_sync_queue is
    'One job for every committed change of a published table; written by walferry.';
