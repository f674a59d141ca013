-- The role that runs walferry in compose.yaml. It reads the tables and the replication stream, and owns
-- nothing. Its password is public: the servers listen on this machine's loopback only.
create role walferry login replication password 'walferry';
grant select on all tables in schema public to walferry;
