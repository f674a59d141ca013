-- Makes jobs of earlier runs `pending` again, except those whose rows other transactions have
-- locked.
-- $1 the epoch of this run.
-- moves: processing -> pending
with orphan as (
    select id, created_at from public.elasticsearch_sync_queue
    where status = 'processing' and epoch <> $1
    for no key update skip locked
)
update public.elasticsearch_sync_queue q
set status = 'pending', started_at = null, epoch = null
from orphan o
where q.id = o.id and q.created_at = o.created_at
