-- An operator's choice to halt indexing (`stop`), which survives restarts. Capture goes on.

create table walferry.control (
    slot       text primary key,
    indexing   boolean not null default true,
    changed_at timestamptz not null default now()
);
