-- The session that holds an advisory lock of this database, and whether its role may run or migrate
-- walferry: a superuser, a role with the rights of this session's role, or one that may write the lease.
-- $1 the lock.
select l.pid, coalesce(a.usename::text, 'unknown') as role,
    coalesce(a.application_name, '') as application,
    coalesce(r.rolsuper or pg_has_role(r.oid, current_user, 'usage')
        or has_table_privilege(r.oid, to_regclass('walferry.lease'), 'update'), false) as is_ours
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
left join pg_roles r on r.oid = a.usesysid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and (l.classid::bigint << 32) | l.objid::bigint = $1
  and l.pid <> pg_backend_pid()
order by is_ours desc
limit 1
