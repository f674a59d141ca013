-- Advances the stored position of the recorder; a position that is not past it updates no row.
-- $1 slot, $2 and $3 the position of the last change, $4 the end of the last commit that is
-- recorded as a whole (null: none is).
update walferry.position
set recorded_lsn = $2, recorded_ordinal = $3, recorded_end_lsn = coalesce($4, recorded_end_lsn)
where slot = $1 and (recorded_lsn, recorded_ordinal) < ($2, $3)
