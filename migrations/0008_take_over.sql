-- Written in the transaction that takes the original system's queue over; at most one row.

create table walferry.take_over (
    slot         text primary key,
    -- Changes committed at or below it have the jobs that the original triggers wrote; later
    -- ones come from the slot.
    taken_lsn    pg_lsn not null,
    taken_at     timestamptz not null default now(),
    -- When the last finished job and the last object of the original system were cleared away.
    finished_at  timestamptz,
    -- When the aliases took the names of the original indices.
    replaced_at  timestamptz
);
