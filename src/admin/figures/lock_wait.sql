-- The transaction that walferry has waited for longest: a session of walferry's waits for a lock of
-- it, or it has locked the row of a job that an earlier run left `processing`.
-- $1 slot.
-- A transaction that is the only one to lock a row is in the row's xmax.
select w.pid, w.application, extract(epoch from clock_timestamp() - w.since)::float8 as seconds
from (
    select b.pid, b.application_name as application, s.query_start as since
    from pg_stat_activity s, unnest(pg_blocking_pids(s.pid)) blocker (pid)
    join pg_stat_activity b on b.pid = blocker.pid
    where s.datname = current_database() and s.usename = session_user
      and s.wait_event_type = 'Lock'
      and starts_with(s.application_name, 'walferry/' || $1::text || '/')
    union all
    select b.pid, b.application_name, b.xact_start
    from (
        select q.xmax from public.elasticsearch_sync_queue q
        where q.status = 'processing' and q.created_at < now() - interval '30 s'
          and q.epoch <> (select l.epoch from walferry.lease l where l.slot = $1::text)
          and not exists (select from walferry.fanout_job f where f.job_id = q.id)
        order by q.created_at limit 100
    ) q
    join pg_locks l on l.locktype = 'transactionid' and l.transactionid = q.xmax and l.granted
    join pg_stat_activity b on b.pid = l.pid
) w
where w.since < clock_timestamp() - interval '5 s' and w.pid <> pg_backend_pid()
order by w.since
limit 1
