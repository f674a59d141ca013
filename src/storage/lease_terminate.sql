-- Ends the sessions of an earlier epoch; returns those that were still there. An application_name
-- proves nothing, since every login chooses its own: sessions of other roles, and of other
-- databases, are left alone.
-- $1 what the names of the epoch's sessions begin with.
select pid, pg_terminate_backend(pid) from pg_stat_activity
where starts_with(application_name, $1) and pid <> pg_backend_pid()
  and datname = current_database() and usename = session_user
