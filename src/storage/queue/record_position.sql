-- Advances the stored position of the recorder; a position that is not past it updates no row.
-- $1 slot, $2 and $3 the position of the last change, $4 the end of the last commit that is
-- recorded as a whole (null: none is), $5 where the row was written last (null: not known).
-- The row is found by its place. Under a long snapshot of another session no version of it can be
-- removed, and the index would lead through all of them.
update walferry.position
set recorded_lsn = $2, recorded_ordinal = $3, recorded_end_lsn = coalesce($4, recorded_end_lsn)
where ctid = coalesce(
        (select ctid from walferry.position where ctid = $5::text::tid and slot = $1),
        (select ctid from walferry.position where slot = $1))
  and slot = $1 and (recorded_lsn, recorded_ordinal) < ($2, $3)
returning ctid::text as place
