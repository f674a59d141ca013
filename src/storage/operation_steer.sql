-- Cancels, pauses or resumes an operation; no row where it is in none of the states to come from.
-- $1 slot, $2 operation, $3 the state to come from, $4 the new one.
update walferry.operation
set state = $4, waits_for = null,
    ended_at = case when $4 = 'cancelled' then clock_timestamp() end
where slot = $1 and id = $2 and state = any ($3)
