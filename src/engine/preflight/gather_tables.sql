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
    coalesce(c.relreplident, 'd')::text as replica_identity,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisreplident)
        as has_identity_index,
    array(select format('%I.%I', h.nspname, h.relname) from (
            select cn.nspname, ch.relname from pg_inherits i
            join pg_class ch on ch.oid = i.inhrelid
            join pg_namespace cn on cn.oid = ch.relnamespace
            where i.inhparent = c.oid and not ch.relispartition) h
        order by 1) as children,
    array(select format('%I.%I', pn.nspname, p.relname)
        from pg_partition_tree(c.oid) tree
        join pg_class p on p.oid = tree.relid
        join pg_namespace pn on pn.oid = p.relnamespace
        where p.oid <> c.oid and p.relkind = 'r' and p.relreplident = 'n'
        order by 1) as parts_without_identity,
    array(select format('%I.%I', pn.nspname, p.relname)
        from pg_partition_tree(c.oid) tree
        join pg_class p on p.oid = tree.relid
        join pg_namespace pn on pn.oid = p.relnamespace
        where p.oid <> c.oid and p.relreplident = 'f'
        order by 1) as parts_with_full_identity
from unnest($1::text[], $2::text[]) with ordinality as wanted (schema, name, place)
left join pg_namespace n on n.nspname = wanted.schema
left join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
order by wanted.place
