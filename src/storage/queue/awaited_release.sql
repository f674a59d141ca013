-- Ends the wait of jobs for an index, in the order of the table feed: they are due.
-- $1 the index, $2 jobs at most.
-- A row that another transaction holds is passed over; a later query meets it.
with parked as materialized (
    select id, created_at from public.elasticsearch_sync_queue
    where status = 'pending' and waits_for = $1
    order by commit_lsn, ordinal
    limit $2 for no key update skip locked
)
update public.elasticsearch_sync_queue q
set waits_for = null
from parked p
where q.id = p.id and q.created_at = p.created_at and q.waits_for = $1
