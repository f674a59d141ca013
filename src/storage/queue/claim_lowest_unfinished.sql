-- The lowest position of a job that is not finished, due or not, and waits for no index.
-- $1 names of tables, $2 slot.
-- The inner select is a fence: without it the unique index may be scanned from its beginning, over
-- all completed jobs.
select commit_lsn, ordinal from (
    select table_name, commit_lsn, ordinal from public.elasticsearch_sync_queue
    where status = 'pending' and waits_for is null
    union all
    select table_name, commit_lsn, ordinal from public.elasticsearch_sync_queue
    where status = 'processing'
    offset 0
) unfinished
where table_name = any ($1)
  and (ordinal is not null and (commit_lsn, ordinal) <= (
      select recorded_lsn, recorded_ordinal from walferry.position where slot = $2))
order by commit_lsn, ordinal
limit 1
