-- Completes the jobs of a range except those whose fan-outs go on, and counts them by day.
-- $1 and $2 the first position, $3 and $4 the last, $5 and $6 the earliest and the latest commit
-- time, $7 and $8 the positions of the jobs that are left out.
-- The conditions are as in complete_commits.sql.
-- moves: processing -> completed
with moved as (
    update public.elasticsearch_sync_queue
    set status = 'completed', processed_at = clock_timestamp(), error_message = null
    where status || '' = 'processing'
      and ((commit_lsn = $1 and ordinal >= $2)
           or (commit_lsn > $1 and commit_lsn < $3)
           or (commit_lsn = $3 and ordinal <= $4))
      and ($1 <> $3 or (ordinal >= $2 and ordinal <= $4))
      and (commit_lsn, ordinal) not in (
          select f.commit_lsn, f.ordinal
          from unnest($7::pg_lsn[], $8::bigint[]) as f (commit_lsn, ordinal))
      and created_at >= $5 and created_at <= $6
    returning status, created_at, processed_at
)
