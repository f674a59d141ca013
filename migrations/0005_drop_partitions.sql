-- Drops the part of a day that is over; what is not completed moves to the default part first.
-- Returns how many rows moved; null where there is no such part, or more than `survivors_max`
-- rows would have to move while nobody can write. The caller sets lock_timeout.
create function walferry.drop_partition(part_day date, survivors_max bigint) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
set walferry.counted = 'on'
as $$
declare
    part text := 'queue_p' || to_char(part_day, 'YYYYMMDD');
    survivors bigint;
begin
    if current_setting('transaction_isolation') not like 'read %' then
        raise exception 'a part is dropped in a read committed transaction only: another would not'
            ' see the latest rows';
    end if;
    -- One maker or dropper at a time. The three together also end an autovacuum in the way, which
    -- the short wait below would not; reads and writes go on.
    lock table only public.elasticsearch_sync_queue in share update exclusive mode;
    if not exists (select from pg_inherits
                   where inhparent = 'public.elasticsearch_sync_queue'::regclass
                     and inhrelid = to_regclass('walferry.' || part)) then
        return null;
    end if;
    execute format('lock table only walferry.%I in share update exclusive mode', part);
    lock table only walferry.queue_default in share update exclusive mode;
    -- While this waits everybody waits behind it; from there to the commit nobody reads or writes.
    perform set_config('lock_timeout', '200ms', true);
    lock table only public.elasticsearch_sync_queue in access exclusive mode;
    execute format('select count(*) from (select from walferry.%I where status <> ''completed'' limit %s) s',
        part, survivors_max + 1) into survivors;
    if survivors > survivors_max then
        return null;
    end if;
    execute format('alter table public.elasticsearch_sync_queue detach partition walferry.%I', part);
    -- All rows of the day were in the part, so its counts are those of the rows that stay.
    delete from walferry.job_count where day = part_day;
    execute format(
        'with moved as ('
        || ' insert into walferry.queue_default'
        || ' select * from walferry.%I where status <> ''completed'' returning *)'
        || ' insert into walferry.job_count'
        || ' (writer, day, pending, processing, failed, timed, seconds)'
        || ' select ''merged'', %L, count(*) filter (where status = ''pending''),'
        || ' count(*) filter (where status = ''processing''),'
        || ' count(*) filter (where status = ''failed''),'
        || ' count(walferry.job_seconds(status, created_at, processed_at)),'
        || ' coalesce(sum(walferry.job_seconds(status, created_at, processed_at)), 0)'
        || ' from moved having count(*) > 0', part, part_day);
    execute format('drop table walferry.%I', part);
    return survivors;
end
$$;

revoke all on function walferry.drop_partition(date, bigint) from public;
