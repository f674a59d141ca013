-- What was altered when a change was recorded, in a column of its own: until now it was a line
-- `note: ...` of error_message. And functions and views for what several statements ask.
--
-- The bodies of functions below are parsed here, so no search_path changes what they mean, and
-- they have no setting of their own, so the planner inlines them.

alter table public.elasticsearch_sync_queue add column note text;

comment on column public.elasticsearch_sync_queue.note is
    'What was altered when the change was recorded; null where change_data is the change itself.';

-- The note in an error_message as it was written before this column was there.
create function walferry.note_in(error_message text) returns text
language sql immutable parallel safe
return substring(error_message from '(?n)^note: (.*)$');

-- The same error_message without that line; null where nothing else is in it.
create function walferry.error_in(error_message text) returns text
language sql immutable parallel safe
return nullif(btrim(regexp_replace(error_message, '(?n)^note: .*$\n?', ''), e'\n'), '');

-- The parts whose notes have not been moved, and the first page that has not. The table is there
-- only until all are.
create table walferry.note_move (
    part      name primary key,
    next_page bigint not null default 0
);

insert into walferry.note_move (part)
select c.relname
from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
where i.inhparent = 'public.elasticsearch_sync_queue'::regclass;

-- Time as the API writes it.
create function walferry.iso(moment timestamptz) returns text
language sql stable parallel safe
return to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- The number of the attempt after `retry_count` of them. A count that was edited by hand neither
-- overflows nor goes below the first.
create function walferry.attempt(retry_count integer) returns integer
language sql immutable parallel safe
return least(greatest(coalesce(retry_count, 0), 0), 1000000) + 1;

-- What a job becomes whose attempt of this number was refused.
create function walferry.status_after(attempt integer, attempts_max integer) returns text
language sql immutable parallel safe
return case when attempt >= attempts_max then 'failed' else 'pending' end;

-- When it is tried again; null where it is not. The wait doubles from `delay_min` to `delay_max`
-- seconds, less up to half at random. 20 doublings are a million.
create function walferry.next_attempt(
    attempt integer, attempts_max integer, delay_min float8, delay_max float8
) returns timestamptz
language sql volatile parallel restricted
return case when attempt < attempts_max then
    clock_timestamp() + make_interval(secs => (0.5 + random() / 2)
        * least(delay_max, delay_min * 2 ^ least(attempt - 1, 20))) end;

-- walferry.job_seconds in microseconds, at two thirds of the cost: they are exact as float8 for a
-- century.
create function walferry.job_micros(status text, created_at timestamptz, processed_at timestamptz)
returns bigint
language sql immutable parallel safe
return case
    when status in ('completed', 'failed')
        and created_at >= timestamptz '1970-01-01 00:00:00+00'
        and created_at < timestamptz '2200-01-01 00:00:00+00'
    then (date_part('epoch', processed_at - created_at) * 1000000)::bigint
end;

-- `processing` for too long. Rows that something else put there have no `started_at`.
create function walferry.is_stuck(status text, started_at timestamptz, created_at timestamptz)
returns boolean
language sql stable parallel safe
return status = 'processing' and coalesce(started_at, created_at) < now() - interval '30 s';

-- Pending jobs that need not wait any longer for their next attempt.
create view walferry.due_job as
select q.id, q.created_at, q.table_name, q.commit_lsn, q.ordinal
from public.elasticsearch_sync_queue q
where q.status = 'pending'
  and (q.next_attempt_at is null or q.next_attempt_at <= clock_timestamp());

-- Who holds each lease, and for how many milliseconds more. A lease is free once the session that
-- took it is gone. A backend of another role hides its start, and counts as the holder until the
-- lease expires.
create view walferry.lease_state as
select l.slot, l.epoch, l.holder,
    -- Null where there never was a holder: before version 17 there are no infinite intervals.
    case when isfinite(l.expires_at) then
        extract(epoch from l.expires_at - clock_timestamp())::float8 * 1000
    end as remaining_ms,
    l.expires_at > clock_timestamp() and exists (
        select from pg_catalog.pg_stat_activity a
        where a.pid = l.backend_pid
          and (a.backend_start is null or a.backend_start = l.backend_start)) as is_held
from walferry.lease l;

-- Jobs less counts, by day, of one snapshot: a transaction commits both or neither, so what they
-- differ by is wrong for good.
create view walferry.job_count_drift as
select coalesce(r.day, c.day) as day,
    coalesce(r.pending, 0) - coalesce(c.pending, 0) as pending,
    coalesce(r.processing, 0) - coalesce(c.processing, 0) as processing,
    coalesce(r.completed, 0) - coalesce(c.completed, 0) as completed,
    coalesce(r.failed, 0) - coalesce(c.failed, 0) as failed,
    coalesce(r.timed, 0) - coalesce(c.timed, 0) as timed,
    coalesce(r.seconds, 0) - coalesce(c.seconds, 0) as seconds
from walferry.count_jobs('public.elasticsearch_sync_queue') r
full join (
    select day, sum(pending) as pending, sum(processing) as processing,
        sum(completed) as completed, sum(failed) as failed, sum(timed) as timed,
        sum(seconds) as seconds
    from walferry.job_count group by day
) c on c.day = r.day;

-- Moves the notes on the next pages of a part. Returns how many; null where all are moved. An
-- instance from before this column may still run, and reads the notes of unfinished jobs where
-- they were: while the lease is held, only those of completed jobs are moved, and the next run
-- moves the others.
create function walferry.move_notes(page_count integer) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    current record;
    pages bigint;
    moved bigint;
begin
    select m.part, m.next_page into current from walferry.note_move m order by m.part limit 1;
    if not found then
        return null;
    end if;
    pages := coalesce(pg_relation_size(to_regclass(format('walferry.%I', current.part))), 0)
        / current_setting('block_size')::bigint;
    if current.next_page >= pages then
        delete from walferry.note_move where part = current.part;
        return 0;
    end if;
    execute format(
        'update walferry.%I set note = walferry.note_in(error_message),'
        || ' error_message = walferry.error_in(error_message)'
        || ' where ctid >= %L::tid and ctid < %L::tid and ordinal is not null'
        || ' and walferry.note_in(error_message) is not null'
        || ' and (status = ''completed'''
        || ' or not exists (select from walferry.lease_state where is_held))',
        current.part, format('(%s,0)', current.next_page),
        format('(%s,0)', current.next_page + page_count));
    get diagnostics moved = row_count;
    update walferry.note_move set next_page = next_page + page_count where part = current.part;
    return moved;
end
$$;

revoke all on function walferry.note_in(text), walferry.error_in(text),
    walferry.iso(timestamptz), walferry.attempt(integer), walferry.status_after(integer, integer),
    walferry.next_attempt(integer, integer, float8, float8),
    walferry.job_micros(text, timestamptz, timestamptz),
    walferry.is_stuck(text, timestamptz, timestamptz), walferry.move_notes(integer) from public;
revoke all on walferry.note_move, walferry.due_job, walferry.lease_state,
    walferry.job_count_drift from public;
