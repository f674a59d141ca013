-- The transactions that hold, or else await, a lock on one of the tables ($1) or a part of one, in
-- one of the modes ($2); the longest ones first.
with recursive relation (oid) as (
    select to_regclass(name) from unnest($1::text[]) name
    union
    select i.inhrelid from relation r join pg_inherits i on i.inhparent = r.oid
)
select case when l.pid is null then 'a prepared transaction'
    else 'process ' || l.pid
        || coalesce(' (' || nullif(a.application_name, '') || ')', '')
    end || case when l.granted then ' holds ' else ' awaits ' end
    || l.mode || ' on ' || l.relation::regclass as blocker
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'relation' and l.mode = any ($2::text[])
  and l.database = (select oid from pg_database where datname = current_database())
  and l.relation in (select oid from relation)
  and l.pid is distinct from pg_backend_pid()
order by l.granted desc, a.xact_start nulls last, l.pid
limit 3
