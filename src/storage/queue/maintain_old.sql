-- Parts whose whole day is before the first day that is kept, oldest first.
-- $1 the first day that is kept, as text.
select c.relname::text as part, to_date(substr(c.relname, 8), 'YYYYMMDD')::text as day
from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
where i.inhparent = 'public.elasticsearch_sync_queue'::regclass
  and c.relnamespace = 'walferry'::regnamespace and c.relname ~ '^queue_p[0-9]{8}$'
  and to_date(substr(c.relname, 8), 'YYYYMMDD') < $1::text::date
order by 1
