-- Begins the next operation, or goes on with the one that an earlier run has begun.
-- $1 slot.
update walferry.operation o
set state = 'running', started_at = coalesce(o.started_at, clock_timestamp())
where o.id = (
    select n.id from walferry.operation n
    where n.slot = $1 and n.state in ('queued', 'running')
    order by n.state = 'running' desc, n.id limit 1)
  and o.state in ('queued', 'running')
returning o.id, o.kind, o.table_name, o.index_name, o.condition, o.keys::text as keys, o.rate_max,
    o.is_repair, o.last_key, o.row_count, o.document_count, o.missing_count, o.stale_count,
    o.orphan_count, o.repaired_count, o.undecided_count, o.findings,
    o.walk
