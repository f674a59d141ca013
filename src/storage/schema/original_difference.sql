-- How public.elasticsearch_sync_queue differs from the original table, as an end of a sentence: the
-- first column, by name, that it does not have, or has otherwise. No row where it does not.
with wanted (name, types) as (values
    ('id', array['integer', 'bigint']),
    ('table_name', array['character varying(100)']),
    ('operation', array['character varying(20)']),
    ('record_id', array['uuid']),
    ('change_data', array['jsonb']),
    ('status', array['character varying(20)']),
    ('retry_count', array['integer']),
    ('error_message', array['text']),
    ('created_at', array['timestamp with time zone']),
    ('processed_at', array['timestamp with time zone'])),
found (name, type) as (
    select attname::text, format_type(atttypid, atttypmod) from pg_attribute
    where attrelid = 'public.elasticsearch_sync_queue'::regclass
      and attnum > 0 and not attisdropped)
select case
    when f.name is null then format('it has no column %I', w.name)
    when w.name is null then format('its column %I is none of the original', f.name)
    else format('its column %I is of type %s, not %s', f.name, f.type, w.types[1]) end as difference
from wanted w full join found f using (name)
where f.type is null or w.types is null or f.type <> all (w.types)
union all
select 'its id is not unique'
where not exists (
    select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'id'
    where i.indrelid = 'public.elasticsearch_sync_queue'::regclass
      and i.indisunique and i.indpred is null and i.indkey::text = a.attnum::text)
limit 1
