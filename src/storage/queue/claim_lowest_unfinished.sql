-- The lowest position of a job that is not finished, due or not.
-- $1 names of tables, $2 slot.
-- The inner select is a fence: without it the unique index may be scanned from its beginning, over
-- all completed jobs.
select commit_lsn, ordinal from (
    select commit_lsn, ordinal from public.elasticsearch_sync_queue
    where status in ('pending', 'processing') and table_name = any ($1)
      and (ordinal is not null and (commit_lsn, ordinal) <= (
          select recorded_lsn, recorded_ordinal from walferry.position where slot = $2))
    offset 0
) unfinished
order by commit_lsn, ordinal
limit 1
