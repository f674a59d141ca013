-- Moves the notes that an instance from before the column `note` left in error_message, of jobs
-- that can still be claimed. `walferry migrate` leaves them while such an instance runs.
update public.elasticsearch_sync_queue
set note = walferry.note_in(error_message), error_message = walferry.error_in(error_message)
where status <> 'completed' and ordinal is not null
  and walferry.note_in(error_message) is not null
