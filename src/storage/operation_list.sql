-- Operations, the newest first.
-- $1 slot, $2 one operation, with its findings (null: all, without), $3 at most.
select o.id, o.kind, o.table_name, o.index_name, o.condition,
    jsonb_array_length(o.keys)::bigint as key_count, o.rate_max, o.is_repair, o.state,
    o.requested_by, o.waits_for, o.row_estimate, o.row_count, o.refused_count, o.document_count,
    o.missing_count, o.stale_count, o.orphan_count, o.repaired_count, o.undecided_count,
    case when $2::bigint is not null then o.findings end as findings, o.error,
    walferry.iso(o.created_at) as created_at, walferry.iso(o.started_at) as started_at,
    walferry.iso(o.ended_at) as ended_at
from walferry.operation o
where o.slot = $1 and ($2::bigint is null or o.id = $2)
order by o.id desc limit $3
