-- The role that runs walferry owns nothing of what walferry migrate executes. It gets rights on the
-- tables, and makes and drops the queue's parts by functions that run with the rights of the role
-- that migrates. Their search_path is fixed, and every name in them is qualified.

-- Gives the roles that run walferry their rights on a part of the queue: those that may write the
-- lease.
create function walferry.grant_part(part text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    runner name;
begin
    for runner in
        select distinct r.rolname
        from pg_class c cross join aclexplode(c.relacl) e join pg_roles r on r.oid = e.grantee
        where c.oid = 'walferry.lease'::regclass and e.privilege_type = 'UPDATE'
          and e.grantee <> c.relowner
    loop
        execute format('grant select, insert, update, delete on walferry.%I to %I', part, runner);
    end loop;
end
$$;

-- Validates what walferry.exclude_day began, which reads and writes go on beside.
create function walferry.validate_excluded_day() returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    alter table walferry.queue_default validate constraint queue_default_without_day;
end
$$;

-- As before, and: a part has the rights and the row security of the whole.
create or replace function walferry.add_partition(part_day date, rows_max bigint) returns boolean
language plpgsql
security definer
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
    if (select c.relrowsecurity from pg_class c
        where c.oid = 'public.elasticsearch_sync_queue'::regclass) then
        execute format('alter table walferry.%I enable row level security', part);
    end if;
    execute format('revoke all on walferry.%I from public', part);
    perform walferry.grant_part(part);
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

alter function walferry.exclude_day(date) security definer;
alter function walferry.admit_all_days() security definer;
alter function walferry.drop_partition(date, bigint) security definer;

revoke all on function walferry.grant_part(text), walferry.validate_excluded_day() from public;
