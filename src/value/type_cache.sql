-- What decides how a value of a type becomes JSON: the class, and what the type consists of.
-- $1 object ids of types.
select t.oid,
    case
        when t.typtype = 'd' then 'domain'
        when t.typtype = 'c' then 'composite'
        when t.typelem <> 0 and t.typlen = -1
            and t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc then 'array'
        when k.castfunc is null then 'text'
        when p.proname = 'hstore_to_json' and t.typname = 'hstore' then 'hstore'
        else 'cast'
    end as class,
    t.typbasetype as base_oid,
    t.typelem as element_oid,
    (select e.typdelim::text from pg_catalog.pg_type e where e.oid = t.typelem) as delimiter,
    array(select a.attname::text from pg_catalog.pg_attribute a
          where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
          order by a.attnum) as attribute_names,
    array(select a.atttypid from pg_catalog.pg_attribute a
          where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
          order by a.attnum) as attribute_oids
from pg_catalog.pg_type t
left join pg_catalog.pg_cast k
    on k.castsource = t.oid and k.casttarget = 'pg_catalog.json'::pg_catalog.regtype
    and k.castmethod = 'f' and t.oid >= 16384
left join pg_catalog.pg_proc p on p.oid = k.castfunc
where t.oid = any($1)
