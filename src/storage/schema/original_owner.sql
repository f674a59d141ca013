-- The owner of public.elasticsearch_sync_queue, if it is none of: a superuser, the role that migrates,
-- the owner of the database, the owner of a published table. No row if it is one of them.
-- $1 the published tables, quoted.
select r.rolname::text as owner
from pg_class c join pg_roles r on r.oid = c.relowner
where c.oid = 'public.elasticsearch_sync_queue'::regclass
  and not r.rolsuper and r.rolname <> current_user
  and r.oid <> (select datdba from pg_database where datname = current_database())
  and r.oid not in (select t.relowner from unnest($1::text[]) name
                    join pg_class t on t.oid = to_regclass(name))
