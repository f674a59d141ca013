-- Makes jobs of earlier runs `pending` again, except those whose rows other transactions have
-- locked, and those whose fan-outs are resumed.
-- $1 the epoch of this run.
-- moves: processing -> pending
with orphan as (
    select q.id, q.created_at from public.elasticsearch_sync_queue q
    where q.status = 'processing' and q.epoch <> $1
      and not exists (select from walferry.fanout_job f where f.job_id = q.id)
    for no key update of q skip locked
)
update public.elasticsearch_sync_queue q
set status = 'pending', started_at = null, epoch = null
from orphan o
where q.id = o.id and q.created_at = o.created_at
