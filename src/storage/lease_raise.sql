-- Begins a new epoch, which this session holds.
-- $1 slot, $2 the holder's name, $3 the term in seconds.
update walferry.lease set epoch = epoch + 1, holder = $2,
    backend_pid = pg_backend_pid(),
    backend_start = (select backend_start from pg_stat_activity where pid = pg_backend_pid()),
    expires_at = clock_timestamp() + make_interval(secs => $3)
where slot = $1
returning epoch
