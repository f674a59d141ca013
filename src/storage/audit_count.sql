-- How many lines of the audit log match. A condition that is null always holds.
-- $1 actor, $2 action, $3 result, $4 the first moment, $5 the moment behind the last.
select count(*) as total
from walferry.audit
where ($1::text is null or actor = $1) and ($2::text is null or action = $2)
    and ($3::text is null or result = $3)
    and ($4::timestamptz is null or at >= $4) and ($5::timestamptz is null or at < $5)
