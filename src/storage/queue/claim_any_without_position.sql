-- Whether jobs are due that are not on the stream.
-- $1 names of tables, $2 slot.
select exists (
    select from walferry.due_job
    where table_name = any ($1)
      and (ordinal is not null and (commit_lsn, ordinal) <= (
          select recorded_lsn, recorded_ordinal from walferry.position where slot = $2)) is not true
) as is_due
