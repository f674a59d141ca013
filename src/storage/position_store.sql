-- Stores a position as given, which may go back.
-- $1 slot, $2 system identifier, $3 timeline, $4 generation, $5 and $6 the position of the last
-- change recorded, $7 the end of the last commit recorded as a whole.
insert into walferry.position (slot, system_identifier, timeline, generation, recorded_lsn,
    recorded_ordinal, recorded_end_lsn)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (slot) do update
    set system_identifier = excluded.system_identifier, timeline = excluded.timeline,
        generation = excluded.generation, recorded_lsn = excluded.recorded_lsn,
        recorded_ordinal = excluded.recorded_ordinal, recorded_end_lsn = excluded.recorded_end_lsn
