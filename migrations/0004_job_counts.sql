-- Statistics without counting: the sum over walferry.job_count is the truth at every commit.
-- Walferry's own sessions keep rows of their own (`walferry.counted` is on there); for everybody
-- else row triggers add up in settings local to the transaction, which a deferred trigger adds to
-- one row of the table at the commit. Nobody waits for anybody's counter.

create table walferry.job_count (
    -- `<purpose>/<slot>` for a session of walferry's own, `sql/<uuid>` for anybody else's.
    writer     text not null,
    -- Of `created_at`, in UTC: with it a day's part can be dropped without counting its rows.
    day        date not null,
    -- Differences: a row alone may be negative.
    pending    bigint not null default 0,
    processing bigint not null default 0,
    completed  bigint not null default 0,
    failed     bigint not null default 0,
    -- Completed and failed jobs whose time is known, and the sum of these times in seconds.
    timed      bigint not null default 0,
    seconds    numeric not null default 0,
    -- How often a transaction took this row; the trigger on it adds up at the commit.
    opened     bigint not null default 0,
    primary key (writer, day)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

revoke all on walferry.job_count from public;

-- A day that bears counting; everything else is one, the day before.
create function walferry.job_day(created_at timestamptz) returns date
language sql immutable parallel safe
as $$
    select case
        when created_at >= timestamptz '1970-01-01 00:00:00+00'
            and created_at < timestamptz '2200-01-01 00:00:00+00'
        then (created_at at time zone 'UTC')::date
        else date '1969-12-31'
    end
$$;

-- Seconds from the commit to the job's end; null where there was no end, or none in its senses.
create function walferry.job_seconds(status text, created_at timestamptz, processed_at timestamptz)
returns numeric
language sql immutable parallel safe
as $$
    select case
        when status in ('completed', 'failed')
            and created_at >= timestamptz '1970-01-01 00:00:00+00'
            and created_at < timestamptz '2200-01-01 00:00:00+00'
            and processed_at >= timestamptz '1970-01-01 00:00:00+00'
            and processed_at < timestamptz '2200-01-01 00:00:00+00'
        then extract(epoch from processed_at - created_at)
    end
$$;

-- What the rows say, in the figures of walferry.job_count. Stable: the caller's snapshot is read.
create function walferry.count_jobs(part regclass)
returns table (day date, pending bigint, processing bigint, completed bigint, failed bigint,
               timed bigint, seconds numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'select walferry.job_day(created_at),'
        || ' count(*) filter (where status = ''pending''),'
        || ' count(*) filter (where status = ''processing''),'
        || ' count(*) filter (where status = ''completed''),'
        || ' count(*) filter (where status = ''failed''),'
        || ' count(walferry.job_seconds(status, created_at, processed_at)),'
        || ' coalesce(sum(walferry.job_seconds(status, created_at, processed_at)), 0)'
        || ' from %s group by 1', part);
end
$$;

-- The setting that holds what this transaction has to add for a day, which it names by its number.
create function walferry.count_setting(day date) returns text
language sql immutable
as $$
    select 'walferry.count_' || (day - date '1960-01-01')::text
$$;

-- Takes a row that no other transaction holds, so that the trigger on it adds up at the commit.
create function walferry.open_count(for_day date) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- With an older snapshot the update of a row changed since would be an error.
    if current_setting('transaction_isolation') like 'read %' then
        update walferry.job_count c set opened = c.opened + 1
        where c.day = for_day and c.writer = (
            select free.writer from walferry.job_count free
            where free.day = for_day and free.writer like 'sql/%'
            limit 1 for no key update skip locked);
        if found then
            return;
        end if;
    end if;
    insert into walferry.job_count (writer, day) values ('sql/' || gen_random_uuid(), for_day);
end
$$;

-- Adds `figures` (in the order of the table's columns) to what this transaction has to add. Only
-- called from where the search_path is set: setting it for every row is half the cost of a row.
create function walferry.add_count(for_day date, figures numeric[]) returns void
language plpgsql
as $$
declare
    setting text := walferry.count_setting(for_day);
    known numeric[] := nullif(current_setting(setting, true), '');
    days date[];
begin
    if known is not null then
        perform set_config(setting, array[known[1] + figures[1], known[2] + figures[2],
            known[3] + figures[3], known[4] + figures[4], known[5] + figures[5],
            known[6] + figures[6]]::text, true);
        return;
    end if;
    -- Before the row is taken: with constraints set immediate its trigger fires at once.
    perform set_config(setting, figures::text, true);
    days := coalesce(nullif(current_setting('walferry.count_days', true), ''), '{}');
    if not for_day = any (days) then
        perform set_config('walferry.count_days', (days || for_day)::text, true);
    end if;
    perform walferry.open_count(for_day);
end
$$;

create function walferry.close_count() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    setting text := walferry.count_setting(new.day);
    figures numeric[] := nullif(current_setting(setting, true), '');
begin
    if figures is null then
        return null;
    end if;
    perform set_config(setting, '', true);
    update walferry.job_count c
    set pending = c.pending + figures[1], processing = c.processing + figures[2],
        completed = c.completed + figures[3], failed = c.failed + figures[4],
        timed = c.timed + figures[5], seconds = c.seconds + figures[6]
    where c.writer = new.writer and c.day = new.day;
    if not found then
        insert into walferry.job_count (writer, day, pending, processing, completed, failed, timed, seconds)
        values ('sql/' || gen_random_uuid(), new.day, figures[1], figures[2], figures[3],
                figures[4], figures[5], figures[6]);
    end if;
    return null;
end
$$;

create constraint trigger close_count
    after insert or update of opened on walferry.job_count
    deferrable initially deferred
    for each row when (new.writer like 'sql/%')
    execute function walferry.close_count();

create function walferry.count_edit() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    was_day date;
    is_day date;
    was numeric[];
    now numeric[];
    seconds numeric;
begin
    if tg_op <> 'INSERT' then
        was_day := walferry.job_day(old.created_at);
        seconds := walferry.job_seconds(old.status, old.created_at, old.processed_at);
        was := array[-(old.status = 'pending')::integer, -(old.status = 'processing')::integer,
            -(old.status = 'completed')::integer, -(old.status = 'failed')::integer,
            -(seconds is not null)::integer, -coalesce(seconds, 0)];
    end if;
    if tg_op <> 'DELETE' then
        is_day := walferry.job_day(new.created_at);
        seconds := walferry.job_seconds(new.status, new.created_at, new.processed_at);
        now := array[(new.status = 'pending')::integer, (new.status = 'processing')::integer,
            (new.status = 'completed')::integer, (new.status = 'failed')::integer,
            (seconds is not null)::integer, coalesce(seconds, 0)];
    end if;
    if was_day = is_day then
        perform walferry.add_count(is_day, array[was[1] + now[1], was[2] + now[2],
            was[3] + now[3], was[4] + now[4], was[5] + now[5], was[6] + now[6]]);
        return null;
    end if;
    if was is not null then
        perform walferry.add_count(was_day, was);
    end if;
    if now is not null then
        perform walferry.add_count(is_day, now);
    end if;
    return null;
end
$$;

-- Rows of a day are in its part and nowhere else, so a day's part need not be counted.
create function walferry.count_truncate() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    part_day date;
    gone record;
    own numeric[];
begin
    if current_setting('transaction_isolation') not like 'read %' then
        raise exception 'cannot truncate %.% in a % transaction: rows that its snapshot does not'
            ' show would go uncounted; truncate in a read committed one',
            tg_table_schema, tg_table_name, current_setting('transaction_isolation');
    end if;
    if tg_table_name ~ '^queue_p[0-9]{8}$' then
        part_day := to_date(substr(tg_table_name, 8), 'YYYYMMDD');
        select sum(c.pending) as pending, sum(c.processing) as processing,
               sum(c.completed) as completed, sum(c.failed) as failed,
               sum(c.timed) as timed, sum(c.seconds) as seconds
        into gone from walferry.job_count c where c.day = part_day;
        own := coalesce(
            nullif(current_setting(walferry.count_setting(part_day), true), ''), '{0,0,0,0,0,0}');
        perform walferry.add_count(part_day, array[
            -coalesce(gone.pending, 0) - own[1], -coalesce(gone.processing, 0) - own[2],
            -coalesce(gone.completed, 0) - own[3], -coalesce(gone.failed, 0) - own[4],
            -coalesce(gone.timed, 0) - own[5], -coalesce(gone.seconds, 0) - own[6]]);
    else
        for gone in select * from walferry.count_jobs(tg_relid) loop
            perform walferry.add_count(gone.day, array[-gone.pending, -gone.processing,
                -gone.completed, -gone.failed, -gone.timed, -gone.seconds]);
        end loop;
    end if;
    return null;
end
$$;

-- Until the commit nobody else writes, so what is counted below is what there is.
lock table public.elasticsearch_sync_queue in share row exclusive mode;

create trigger count_insert after insert on public.elasticsearch_sync_queue
    for each row when (current_setting('walferry.counted', true) is distinct from 'on')
    execute function walferry.count_edit();
create trigger count_delete after delete on public.elasticsearch_sync_queue
    for each row when (current_setting('walferry.counted', true) is distinct from 'on')
    execute function walferry.count_edit();
create trigger count_update after update on public.elasticsearch_sync_queue
    for each row when (current_setting('walferry.counted', true) is distinct from 'on'
        and (old.status, old.created_at, old.processed_at)
            is distinct from (new.status, new.created_at, new.processed_at))
    execute function walferry.count_edit();

-- The latest end of all jobs, whichever row was edited last.
create index idx_elasticsearch_sync_queue_processed
    on public.elasticsearch_sync_queue (processed_at) where status in ('completed', 'failed');

-- A statement's trigger is no part's until it is made there.
do $$
declare
    part regclass;
begin
    for part in
        select inhrelid::regclass from pg_catalog.pg_inherits
        where inhparent = 'public.elasticsearch_sync_queue'::regclass
    loop
        execute format('create trigger count_truncate before truncate on %s'
            || ' for each statement execute function walferry.count_truncate()', part);
    end loop;
end
$$;

insert into walferry.job_count (writer, day, pending, processing, completed, failed, timed, seconds)
select 'migrate', r.* from walferry.count_jobs('public.elasticsearch_sync_queue') r;

-- As before, and: the part reports a TRUNCATE; the rows that it takes over are counted already.
create or replace function walferry.make_partitions(days_ahead integer) returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
set walferry.counted = 'on'
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
        execute format('create trigger count_truncate before truncate on walferry.%I'
            || ' for each statement execute function walferry.count_truncate()', part);
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

-- What this transaction has still to add is part of what it sees.
create or replace function public.get_elasticsearch_queue_stats()
returns table (
    total_jobs          bigint,
    pending_jobs        bigint,
    processing_jobs     bigint,
    completed_jobs      bigint,
    failed_jobs         bigint,
    avg_processing_time numeric,
    last_processed_at   timestamptz
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    with part as (
        select c.pending, c.processing, c.completed, c.failed, c.timed, c.seconds
        from walferry.job_count c
        union all
        select f[1]::bigint, f[2]::bigint, f[3]::bigint, f[4]::bigint, f[5]::bigint, f[6]
        from unnest(nullif(current_setting('walferry.count_days', true), '')::date[]) day,
             lateral (select nullif(
                 current_setting(walferry.count_setting(day), true), '')::numeric[]) own (f)
        where f is not null
    ),
    total as (
        select coalesce(sum(pending), 0)::bigint as pending,
               coalesce(sum(processing), 0)::bigint as processing,
               coalesce(sum(completed), 0)::bigint as completed,
               coalesce(sum(failed), 0)::bigint as failed,
               sum(timed) as timed, sum(seconds) as seconds
        from part
    )
    select
        t.pending + t.processing + t.completed + t.failed,
        t.pending, t.processing, t.completed, t.failed,
        coalesce(t.seconds * 1000 / nullif(t.timed, 0), 0),
        (select max(q.processed_at) from public.elasticsearch_sync_queue q
         where q.status in ('completed', 'failed'))
    from total t
$$;

revoke all on function walferry.job_day(timestamptz),
    walferry.job_seconds(text, timestamptz, timestamptz), walferry.count_jobs(regclass),
    walferry.count_setting(date), walferry.open_count(date), walferry.add_count(date, numeric[]),
    walferry.close_count(), walferry.count_edit(), walferry.count_truncate() from public;
