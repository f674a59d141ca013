-- The original statistics, under their original names.

create function public.get_elasticsearch_queue_stats()
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
    select
        count(*),
        count(*) filter (where q.status = 'pending'),
        count(*) filter (where q.status = 'processing'),
        count(*) filter (where q.status = 'completed'),
        count(*) filter (where q.status = 'failed'),
        coalesce(
            avg(extract(epoch from q.processed_at - q.created_at) * 1000)
                filter (where q.status in ('completed', 'failed') and q.processed_at is not null),
            0),
        max(q.processed_at) filter (where q.status in ('completed', 'failed'))
    from public.elasticsearch_sync_queue q
$$;

revoke all on function public.get_elasticsearch_queue_stats() from public;

do $$
declare
    api_role text;
begin
    for api_role in
        select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated')
    loop
        execute format('revoke all on function public.get_elasticsearch_queue_stats() from %I', api_role);
    end loop;
    if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
        grant execute on function public.get_elasticsearch_queue_stats() to service_role;
    end if;
end
$$;
