-- Stores the position from which changes are recorded.
-- $1 slot, $2 the position.
insert into walferry.position (slot, system_identifier, timeline, recorded_lsn,
    recorded_end_lsn)
select $1, s.system_identifier::text,
    ('x' || substr(pg_walfile_name($2), 1, 8))::bit(32)::integer, $2, $2
from pg_control_system() s
