-- Drops what is old of the audit log: operations by their age, refused attempts by their number.
-- $1 seconds for which operations are kept, $2 refused attempts that are kept.
delete from walferry.audit where id in (
    (select id from walferry.audit
     where at < clock_timestamp() - make_interval(secs => $1::float8) limit 10000)
    union all
    (select id from walferry.audit where result = 'denied' order by id desc offset $2 limit 100000))
