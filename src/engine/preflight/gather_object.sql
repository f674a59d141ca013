-- Whether an object exists, and whether the role has all of some privileges on it. Names are looked up
-- in the catalog, since to_regclass fails without a right on the schema.
-- $1 the object's name with its schema, $2 the privileges, separated by a comma and a space.
with object as (
    select c.oid, has_schema_privilege(c.relnamespace, 'usage') as is_reachable
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = split_part($1, '.', 1) and c.relname = split_part($1, '.', 2)
)
select exists (select from object) as is_there,
    coalesce((select o.is_reachable and bool_and(has_table_privilege(o.oid, verb))
              from object o, regexp_split_to_table($2, ', ') as verb
              group by o.oid, o.is_reachable), false) as is_permitted
