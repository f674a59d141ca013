-- Moves the notes that an instance from before the column `note` left in error_message, of jobs
-- that can still be claimed, except those whose rows other transactions have locked.
-- `walferry migrate` leaves them while such an instance runs.
with job as (
    select id, created_at from public.elasticsearch_sync_queue
    where status <> 'completed' and ordinal is not null
      and walferry.note_in(error_message) is not null
    for no key update skip locked
)
update public.elasticsearch_sync_queue q
set note = walferry.note_in(q.error_message), error_message = walferry.error_in(q.error_message)
from job j
where q.id = j.id and q.created_at = j.created_at
