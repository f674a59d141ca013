-- Lines of the audit log that match, the newest first. A condition that is null always holds.
-- $1 actor, $2 action, $3 result, $4 the first moment, $5 the moment behind the last,
-- $6 lines to skip, $7 lines at most.
select id, walferry.iso(at) as at, actor, role, address, request_id, action, target, affected,
    result, reason
from walferry.audit
where ($1::text is null or actor = $1) and ($2::text is null or action = $2)
    and ($3::text is null or result = $3)
    and ($4::timestamptz is null or at >= $4) and ($5::timestamptz is null or at < $5)
order by id desc offset $6 limit $7
