-- The key of a record's row, from the newest job that carries it. One row for each column, in the
-- order of the key; no row where none of the newest 20 jobs carries the key.
--
-- $1 text    the table's name
-- $2 text    the record's id, a UUID
-- $3 text[]  the key's columns
select newest.image ->> k.name as part
from (
    select job.image
    from (
        select id,
               case when operation = 'UPDATE' then change_data -> 'new' else change_data end as image
        from public.elasticsearch_sync_queue
        where table_name = $1 and record_id = $2::text::uuid
          and operation in ('INSERT', 'UPDATE', 'DELETE')
        order by id desc limit 20) job
    where job.image ?& $3
    order by job.id desc limit 1) newest,
    unnest($3::text[]) with ordinality k (name, place)
order by k.place
