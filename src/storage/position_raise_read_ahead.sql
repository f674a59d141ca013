-- Raises the position up to which documents may have been rendered from reads. It never goes back.
-- $1 slot, $2 the position.
insert into walferry.settlement (slot, read_ahead_lsn)
values ($1, $2)
on conflict (slot) do update
    set read_ahead_lsn = greatest(walferry.settlement.read_ahead_lsn, excluded.read_ahead_lsn)
