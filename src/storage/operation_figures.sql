-- Operations by kind and state, each with the documents that differ by the newest whole verification
-- of its table and are not repaired.
-- $1 slot.
select o.kind, o.state, count(*)::bigint as operations,
    coalesce(sum(o.missing_count + o.stale_count + o.orphan_count - o.repaired_count)
        filter (where o.id in (
            select max(n.id) from walferry.operation n
            where n.slot = $1 and n.kind = 'verify' and n.state = 'completed' and n.keys is null
            group by n.table_name)), 0)::bigint as differences
from walferry.operation o
where o.slot = $1
group by o.kind, o.state
