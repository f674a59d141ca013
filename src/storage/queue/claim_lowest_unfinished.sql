-- The lowest position of a job that is not finished, due or not. A job with a fan-out is not claimed
-- again.
-- $1 names of tables, $2 slot.
-- The inner select is a fence: without it the unique index may be scanned from its beginning, over
-- all completed jobs.
select commit_lsn, ordinal from (
    select commit_lsn, ordinal from public.elasticsearch_sync_queue q
    where status in ('pending', 'processing') and table_name = any ($1)
      and (ordinal is not null and (commit_lsn, ordinal) <= (
          select recorded_lsn, recorded_ordinal from walferry.position where slot = $2))
      and not exists (select from walferry.fanout_job f where f.job_id = q.id)
    offset 0
) unfinished
order by commit_lsn, ordinal
limit 1
