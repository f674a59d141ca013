-- What the stream is made of: each table and its place in the publication, as they were when the
-- position began. A table that was dropped, renamed or taken out, even for a moment, leaves a gap.

create table walferry.source (
    slot       text not null,
    -- `schema.name`.
    table_name text not null,
    -- Object ids of the table, the publication and the place in it, and what is published.
    identity   text not null,
    primary key (slot, table_name)
);
