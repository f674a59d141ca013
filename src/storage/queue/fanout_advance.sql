-- Moves fan-outs on by a chunk, and notes the jobs whose documents were refused in it.
-- $1 fan-outs, $2 the last key of the chunk, $3 rows, $4 ids of jobs, $5 their errors.
with advanced as (
    update walferry.fanout set last_key = $2, row_count = row_count + $3 where id = any ($1)
)
update walferry.fanout_job j set error = coalesce(j.error, f.error)
from unnest($4::bigint[], $5::text[]) as f (id, error)
where j.fanout = any ($1) and j.job_id = f.id
