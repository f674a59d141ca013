-- Stores whether jobs are to be indexed, and when that was chosen; the same choice again changes
-- nothing.
-- $1 slot, $2 whether they are.
insert into walferry.control (slot, indexing) values ($1, $2)
on conflict (slot) do update
    set indexing = excluded.indexing,
        changed_at = case when walferry.control.indexing = excluded.indexing
            then walferry.control.changed_at else clock_timestamp() end
