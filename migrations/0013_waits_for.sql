-- Jobs that wait for an index which takes no documents. They are not due, however many they are,
-- until the index takes documents again.

alter table public.elasticsearch_sync_queue add column waits_for text;

comment on column public.elasticsearch_sync_queue.waits_for is
    'The alias of the index that a pending job waits for; null where it waits for none.';

-- Pending jobs that wait for no index, in the order of the table feed. The index on status and
-- commit time has those that wait as well.
create index idx_elasticsearch_sync_queue_due
    on public.elasticsearch_sync_queue (commit_lsn, ordinal)
    where status = 'pending' and waits_for is null;
-- The others, by their index.
create index idx_elasticsearch_sync_queue_waits_for
    on public.elasticsearch_sync_queue (waits_for, commit_lsn, ordinal)
    where status = 'pending' and waits_for is not null;

-- Pending jobs that need not wait any longer, neither for their next attempt nor for an index.
create or replace view walferry.due_job as
select q.id, q.created_at, q.table_name, q.commit_lsn, q.ordinal
from public.elasticsearch_sync_queue q
where q.status = 'pending' and q.waits_for is null
  and (q.next_attempt_at is null or q.next_attempt_at <= clock_timestamp());

-- The indices that pending jobs wait for, and how many wait for each: `jobs_max` at most are
-- counted. One probe of an index for each of them.
create function walferry.awaited_index(jobs_max bigint)
returns table (name text, jobs bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive awaited (name) as (
        (select q.waits_for from public.elasticsearch_sync_queue q
         where q.status = 'pending' and q.waits_for is not null
         order by q.waits_for limit 1)
        union all
        select (select q.waits_for from public.elasticsearch_sync_queue q
                where q.status = 'pending' and q.waits_for > a.name
                order by q.waits_for limit 1)
        from awaited a where a.name is not null
    )
    select a.name,
        (select count(*) from (
            select from public.elasticsearch_sync_queue q
            where q.status = 'pending' and q.waits_for = a.name
            limit jobs_max) counted)
    from awaited a where a.name is not null
$$;

revoke all on function walferry.awaited_index(bigint) from public;
