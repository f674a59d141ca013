-- The jobs of fan-outs that are not finished.
-- $1 slot, $2 the last id of a fan-out that is known.
select j.fanout, j.group_number, j.job_id
from walferry.fanout_job j join walferry.fanout f on f.id = j.fanout
where f.slot = $1 and f.id > $2
order by j.fanout, j.group_number, j.job_id
