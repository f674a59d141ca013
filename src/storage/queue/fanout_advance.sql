-- Moves fan-outs on by a chunk, and notes the jobs whose documents were refused in it, or wait for
-- an index. What a job waits for goes before what was refused.
-- $1 fan-outs, $2 the last key of the chunk, $3 rows, $4 ids of jobs, $5 their errors, $6 the indices
-- that they wait for (null: none).
with advanced as (
    update walferry.fanout set last_key = $2, row_count = row_count + $3 where id = any ($1)
)
update walferry.fanout_job j
set waits_for = coalesce(j.waits_for, f.waits_for),
    error = case when j.waits_for is null and f.waits_for is not null then f.error
        else coalesce(j.error, f.error) end
from unnest($4::bigint[], $5::text[], $6::text[]) as f (id, error, waits_for)
where j.fanout = any ($1) and j.job_id = f.id
