-- The lowest position of a job that is not finished, due or not, and waits for no index. A job with a
-- fan-out is not claimed again.
-- $1 names of tables, $2 slot.
-- The inner select is a fence: without it the unique index may be scanned from its beginning, over
-- all completed jobs.
select commit_lsn, ordinal from (
    select table_name, commit_lsn, ordinal from public.elasticsearch_sync_queue
    where status = 'pending' and waits_for is null
    union all
    select table_name, commit_lsn, ordinal from public.elasticsearch_sync_queue q
    where status = 'processing'
      and not exists (select from walferry.fanout_job f where f.job_id = q.id)
    offset 0
) unfinished
where table_name = any ($1)
  and (ordinal is not null and (commit_lsn, ordinal) <= (
      select recorded_lsn, recorded_ordinal from walferry.position where slot = $2))
order by commit_lsn, ordinal
limit 1
