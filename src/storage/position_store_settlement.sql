-- Stores a settlement as given, which may go back.
-- $1 slot, $2 the settled position, $3 the position up to which documents may have been rendered.
insert into walferry.settlement (slot, settled_lsn, read_ahead_lsn)
values ($1, $2, $3)
on conflict (slot) do update
    set settled_lsn = excluded.settled_lsn, read_ahead_lsn = excluded.read_ahead_lsn
