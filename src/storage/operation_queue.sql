-- Queues operations in their order, all of them or none.
-- $1 slot, $2 tables, $3 conditions, $4 keys, $5 rows in a second, $6 who asks, $7 rows that there
-- are, $8 kinds, $9 indices, $10 whether what differs is rendered anew.
insert into walferry.operation
    (slot, requested_by, table_name, condition, keys, rate_max, row_estimate, kind, index_name,
     is_repair)
select $1, $6, n.table_name, n.condition, n.keys::jsonb, n.rate_max, n.row_estimate, n.kind,
    n.index_name, n.is_repair
from unnest($2::text[], $3::text[], $4::text[], $5::integer[], $7::bigint[], $8::text[], $9::text[],
        $10::boolean[]) with ordinality
    as n (table_name, condition, keys, rate_max, row_estimate, kind, index_name, is_repair, number)
order by n.number
returning id
