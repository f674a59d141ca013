-- What is built on public.elasticsearch_sync_queue, its row type or its statistics: views, foreign
-- keys, functions over its rows, policies of other tables, triggers of its own. One of them, or no
-- row.
with queue as (
    select c.oid, t.oid as row_type, t.typarray
    from pg_class c join pg_type t on t.oid = c.reltype
    where c.oid = 'public.elasticsearch_sync_queue'::regclass)
select pg_describe_object(d.classid, d.objid, d.objsubid) as dependent
from pg_depend d, queue q
where d.deptype = 'n'
  and (d.refclassid = 'pg_class'::regclass and d.refobjid = q.oid
       or d.refclassid = 'pg_type'::regclass and d.refobjid in (q.row_type, q.typarray)
       or d.refclassid = 'pg_proc'::regclass
          and d.refobjid = to_regprocedure('public.get_elasticsearch_queue_stats()'))
  and not (d.classid = 'pg_policy'::regclass and exists (
      select from pg_policy p where p.oid = d.objid and p.polrelid = q.oid))
  and not (d.classid = 'pg_constraint'::regclass and exists (
      select from pg_constraint k where k.oid = d.objid and k.conrelid = q.oid))
union all
select pg_describe_object('pg_trigger'::regclass, t.oid, 0)
from pg_trigger t, queue q where t.tgrelid = q.oid and not t.tgisinternal
limit 1
