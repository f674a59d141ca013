-- The original system's trigger functions, and the triggers of other tables that execute each (null:
-- none).
select p.oid::regprocedure::text as name,
    (select string_agg(format('trigger %I on %s', t.tgname, t.tgrelid::regclass), ', ')
     from pg_trigger t where t.tgfoid = p.oid and t.tgparentid = 0) as users
from pg_proc p
where p.proname = 'add_to_elasticsearch_queue' and p.pronargs = 0
  and p.prorettype = 'trigger'::regtype
order by 1
