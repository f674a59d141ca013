-- Statements that give the new table the comments on the columns of the old one.
select format('comment on column public.elasticsearch_sync_queue.%I is %L',
           a.attname, d.description) as statement
from pg_description d join pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid
where d.classoid = 'pg_class'::regclass
  and d.objoid = 'public.elasticsearch_sync_queue'::regclass and d.objsubid > 0
