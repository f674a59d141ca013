-- Drops what is old of the audit log: operations by their age, refused attempts and reads by their
-- number.
-- $1 seconds for which operations are kept, $2 refused attempts that are kept, $3 reads that are kept,
-- $4 the action of a read.
delete from walferry.audit where id in (
    (select id from walferry.audit
     where at < clock_timestamp() - make_interval(secs => $1::float8) limit 10000)
    union all
    (select id from walferry.audit where result = 'denied' order by id desc offset $2 limit 100000)
    union all
    (select id from walferry.audit where result = 'done' and action = $4
     order by id desc offset $3 limit 100000))
