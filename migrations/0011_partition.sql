-- Parts of the queue are made one by one, each in a short transaction. What holds the default part
-- under ACCESS EXCLUSIVE is bounded: either a constraint proves that the default part has no row of
-- the day, so that ATTACH PARTITION does not scan it, or the default part and the rows to move are
-- small. walferry.make_partitions stays for a queue that has no rows yet.

-- The parts that are attached, with their days.
create view walferry.queue_partition as
select c.relname as part, to_date(substr(c.relname, 8), 'YYYYMMDD') as day
from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
where i.inhparent = 'public.elasticsearch_sync_queue'::regclass
  and c.relnamespace = 'walferry'::regnamespace and c.relname ~ '^queue_p[0-9]{8}$';

-- The days that get a part: yesterday to `days_ahead` days from today (UTC), and earlier days from
-- `first_day` on of which the default part has rows; none where that is null. `is_future` is true
-- of days that do not begin while a part is made.
create function walferry.days_without_partition(first_day date, days_ahead integer)
returns table (day date, is_future boolean)
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
    with today as (select (clock_timestamp() at time zone 'UTC')::date as day)
    select d.day, d.day::timestamptz > clock_timestamp() + interval '10 min'
    from today, lateral (
        select today.day + n from generate_series(-1, days_ahead) n
        union
        select walferry.job_day(q.created_at) from walferry.queue_default q
        where first_day is not null
          and q.created_at >= first_day::timestamptz and q.created_at < (today.day - 1)::timestamptz
    ) d (day)
    where not exists (select from walferry.queue_partition p where p.day = d.day)
    order by d.day
$$;

-- Whether the part of a day can be made while the default part is locked for a moment only: at most
-- `rows_max` rows and `bytes_max` bytes of that day are moved, and at most `bytes_max` are scanned.
-- Null if walferry.exclude_day can be used: the day has not begun, and there is no row to move.
create function walferry.is_partition_small(
    part_day date, is_future boolean, rows_max bigint, bytes_max bigint
) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
    select case when count(*) > 0 or not is_future then
        count(*) <= rows_max and coalesce(sum(s.bytes), 0) <= bytes_max
        and pg_relation_size('walferry.queue_default') <= bytes_max end
    from (
        select pg_column_size(q.change_data) as bytes from walferry.queue_default q
        where q.created_at >= part_day::timestamptz and q.created_at < (part_day + 1)::timestamptz
        limit rows_max + 1
    ) s
$$;

-- Keeps rows of a day out of the default part until its part is attached, for a day that has not
-- begun. To be validated in a transaction of its own, which reads and writes go on beside.
create function walferry.exclude_day(part_day date) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
begin
    execute format('alter table walferry.queue_default add constraint queue_default_without_day'
        || ' check (created_at < %L::timestamptz or created_at >= %L::timestamptz) not valid',
        part_day::timestamptz, (part_day + 1)::timestamptz);
end
$$;

-- Ends what walferry.exclude_day began; also what a process left that died before the attachment.
create function walferry.admit_all_days() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from pg_constraint
               where conrelid = 'walferry.queue_default'::regclass
                 and conname = 'queue_default_without_day') then
        alter table walferry.queue_default drop constraint queue_default_without_day;
    end if;
end
$$;

-- Makes the part of a day, moves the rows of that day out of the default part and attaches it.
-- False if it is there already, or if more than `rows_max` rows were to be moved; the caller rolls
-- back then. The caller sets lock_timeout.
create function walferry.add_partition(part_day date, rows_max bigint) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
set walferry.counted = 'on'
as $$
declare
    part text := 'queue_p' || to_char(part_day, 'YYYYMMDD');
    moved bigint := 0;
begin
    -- One maker at a time; reads and writes of the queue go on.
    lock table only public.elasticsearch_sync_queue in share update exclusive mode;
    if to_regclass('walferry.' || part) is not null then
        return false;
    end if;
    execute format('create table walferry.%I (like public.elasticsearch_sync_queue including all)', part);
    execute format('alter table walferry.%I enable row level security', part);
    execute format('revoke all on walferry.%I from public', part);
    execute format('create trigger count_truncate before truncate on walferry.%I'
        || ' for each statement execute function walferry.count_truncate()', part);
    -- From here to the commit nothing can be written to, or read from, the default part.
    lock table walferry.queue_default in access exclusive mode;
    if not exists (select from pg_constraint
                   where conrelid = 'walferry.queue_default'::regclass
                     and conname = 'queue_default_without_day' and convalidated) then
        execute format(
            'with moved as (delete from walferry.queue_default'
            || ' where created_at >= %L and created_at < %L returning *)'
            || ' insert into walferry.%I select * from moved',
            part_day::timestamptz, (part_day + 1)::timestamptz, part);
        get diagnostics moved = row_count;
        if moved > rows_max then
            return false;
        end if;
    end if;
    execute format(
        'alter table public.elasticsearch_sync_queue attach partition walferry.%I'
        || ' for values from (%L) to (%L)',
        part, part_day::timestamptz, (part_day + 1)::timestamptz);
    perform walferry.admit_all_days();
    return true;
end
$$;

revoke all on function walferry.days_without_partition(date, integer),
    walferry.is_partition_small(date, boolean, bigint, bigint), walferry.exclude_day(date),
    walferry.admit_all_days(), walferry.add_partition(date, bigint) from public;
revoke all on walferry.queue_partition from public;
