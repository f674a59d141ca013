-- The schema of walferry's own objects, and the migrations that it was built by.
create schema if not exists walferry;
revoke all on schema walferry from public;
create table if not exists walferry.migration (
    version    integer primary key,
    name       text not null,
    applied_at timestamptz not null default now()
)
