-- The transactions that a session ($1 its process id) waits for, the oldest first.
select blocking.pid, case when a.pid is null then 'a prepared transaction (see pg_prepared_xacts)'
    else 'process ' || a.pid
        || coalesce(' of user ' || a.usename, '')
        || coalesce(' (' || nullif(a.application_name, '') || ')', '')
        || coalesce(' in database ' || a.datname, '')
        || coalesce(', whose transaction began '
            || round(extract(epoch from clock_timestamp() - a.xact_start)) || ' s ago', '')
    end as holder
from unnest(pg_catalog.pg_blocking_pids($1)) as blocking (pid)
left join pg_catalog.pg_stat_activity a on a.pid = blocking.pid
order by a.xact_start nulls last, blocking.pid
limit 3
