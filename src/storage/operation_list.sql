-- Operations, the newest first.
-- $1 slot, $2 one operation (null: all), $3 at most.
select o.id, o.kind, o.table_name, o.condition, jsonb_array_length(o.keys)::bigint as key_count,
    o.rate_max, o.state, o.requested_by, o.waits_for, o.row_estimate, o.row_count,
    o.refused_count, o.error, walferry.iso(o.created_at) as created_at,
    walferry.iso(o.started_at) as started_at, walferry.iso(o.ended_at) as ended_at
from walferry.operation o
where o.slot = $1 and ($2::bigint is null or o.id = $2)
order by o.id desc limit $3
