-- A job's change column by column: the value before and after, as text of JSON.
-- $1 id, $2 characters of a value at most.
with job as (
    select q.operation, q.change_data as data from public.elasticsearch_sync_queue q
    where q.id = $1 order by q.created_at desc limit 1
), image as (
    select case operation when 'UPDATE' then data -> 'old' when 'DELETE' then data end as old,
        case operation when 'UPDATE' then data -> 'new' when 'INSERT' then data end as new
    from job
), o as (
    select e.key, e.value
    from image, jsonb_each(case when jsonb_typeof(old) = 'object' then old else '{}' end) e
), n as (
    select e.key, e.value
    from image, jsonb_each(case when jsonb_typeof(new) = 'object' then new else '{}' end) e
)
select key, left(o.value::text, $2) as old, length(o.value::text) > $2 as is_old_cut,
    left(n.value::text, $2) as new, length(n.value::text) > $2 as is_new_cut,
    o.value is distinct from n.value as is_changed
from o full join n using (key)
order by key
