-- The columns of a table's primary key, in its order.
-- $1 the table's object id.
select a.attname::text as name, a.atttypid as type_oid,
    pg_catalog.format_type(a.atttypid, a.atttypmod) as type_name
from pg_catalog.pg_index i
cross join lateral pg_catalog.unnest(i.indkey::int2[]) with ordinality as k(number, place)
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
where i.indrelid = $1 and i.indisprimary and k.place <= i.indnkeyatts
order by k.place
