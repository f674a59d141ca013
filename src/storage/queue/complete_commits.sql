-- Completes the jobs of a range that spans several commits, and counts them by day.
-- $1 and $2 the first position, $3 and $4 the last, $5 and $6 the earliest and the latest commit
-- time.
-- The first and the last commit are compared by equality: a range over both columns is estimated by
-- the first alone, and then a scan of another index for the commit time seems as good, which reads
-- all jobs of a large transaction. The commit time prunes other days. `status || ''` keeps the index
-- on status out: it holds a dead entry for every job that passed.
-- moves: processing -> completed
with moved as (
    update public.elasticsearch_sync_queue
    set status = 'completed', processed_at = clock_timestamp(), error_message = null
    where status || '' = 'processing'
      and ((commit_lsn = $1 and ordinal >= $2)
           or (commit_lsn > $1 and commit_lsn < $3)
           or (commit_lsn = $3 and ordinal <= $4))
      and created_at >= $5 and created_at <= $6
    returning status, created_at, processed_at
)
