-- Raises the settled position. It never goes back.
-- $1 slot, $2 the position, $3 where the row was written last (null: not known).
-- The row is found by its place, as in record_position.sql.
update walferry.settlement
set settled_lsn = greatest(settled_lsn, $2)
where ctid = coalesce(
        (select ctid from walferry.settlement where ctid = $3::text::tid and slot = $1),
        (select ctid from walferry.settlement where slot = $1))
  and slot = $1
returning ctid::text as place
