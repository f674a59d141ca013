-- Lines of the audit log, the newest first.
-- $1 lines to skip, $2 lines at most.
select id, walferry.iso(at) as at, actor, role, address, request_id, action, target, affected,
    result, reason
from walferry.audit
order by id desc offset $1 limit $2
