-- Who did what to the queue, and what came of it. A row is there before the operation begins, so
-- that one which died half-way is seen as such. No row values, no secrets.

create table walferry.audit (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    -- The token's name, the JWT's subject, `anonymous`, or a role of the database.
    actor      text not null,
    role       text not null,
    -- Where the request came from; null at a terminal.
    address    text,
    request_id text,
    action     text not null,
    -- What it was done to: a job, a record, a filter.
    target     text,
    -- Rows moved, deleted or written.
    affected   bigint,
    result     text not null,
    -- Why: an operator's words, or the error's.
    reason     text,
    constraint audit_result_check check (result in ('started', 'done', 'denied', 'failed'))
);

-- For dropping what is old.
create index audit_at on walferry.audit (at);

alter table walferry.audit enable row level security;
revoke all on walferry.audit from public;
