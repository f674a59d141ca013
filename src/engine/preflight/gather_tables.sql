-- The configured tables, as the role sees them.
-- $1 schemas, $2 names.
select wanted.schema, wanted.name, c.oid is not null as exists,
    coalesce(c.relkind in ('r', 'p'), false) as is_table,
    coalesce(c.relpersistence <> 'p', false) as is_unlogged,
    coalesce(has_schema_privilege(n.oid, 'usage')
             and has_table_privilege(c.oid, 'select'), false) as can_select,
    coalesce(row_security_active(c.oid), false) as has_row_security,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
        as has_primary_key,
    coalesce(c.relreplident, 'd')::text as replica_identity
from unnest($1::text[], $2::text[]) with ordinality as wanted (schema, name, place)
left join pg_namespace n on n.nspname = wanted.schema
left join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
order by wanted.place
