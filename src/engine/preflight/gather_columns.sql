-- The columns of the configured tables, in their order, with what a domain is made of.
-- $1 schemas, $2 names.
select (wanted.place - 1)::int as place, a.attname::text as name,
    format_type(a.atttypid, a.atttypmod) as type_name,
    a.attgenerated <> '' as is_generated,
    a.attgenerated = 's' as is_stored,
    coalesce(a.attnum = any (k.indkey::int2[]), false) as is_in_key,
    coalesce(a.attnum = any (r.indkey::int2[]), false) as is_in_identity,
    base.oid as base_type, coalesce(nullif(a.atttypmod, -1), base.modifier, -1) as modifier,
    case
        when base.typtype = 'c' then 'composite'
        when base.typcategory = 'A' then 'array'
        when base.oid in ('json'::regtype, 'jsonb'::regtype) then 'json'
        when base.typtype = 'b' and base.oid >= 16384 then 'extension'
        when not coalesce(l.collisdeterministic, true) then 'collation'
        else ''
    end as unfit_for_keys
from unnest($1::text[], $2::text[]) with ordinality as wanted (schema, name, place)
join pg_namespace n on n.nspname = wanted.schema
join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_index k on k.indrelid = c.oid and k.indisprimary
left join pg_index r on r.indrelid = c.oid and r.indisreplident
left join pg_collation l on l.oid = a.attcollation
cross join lateral (
    with recursive step as (
        select t.oid, t.typtype, t.typcategory, t.typbasetype, t.typtypmod as modifier
        from pg_type t where t.oid = a.atttypid
        union all
        select t.oid, t.typtype, t.typcategory, t.typbasetype,
            coalesce(nullif(step.modifier, -1), t.typtypmod)
        from step join pg_type t on t.oid = step.typbasetype
        where step.typtype = 'd'
    )
    select * from step where typtype <> 'd'
) base
order by wanted.place, a.attnum
