-- Operations of the kind `verify`: what was compared, and what differs.

alter table walferry.operation
    -- Only documents of this index, by its name in the definition; null for all that show the table.
    add column index_name      text,
    -- What differs is rendered anew.
    add column is_repair       boolean not null default false,
    -- Documents that were compared.
    add column document_count  bigint not null default 0,
    -- Documents that are not there, that differ from their rows, that no row gives, and those of all
    -- these that were rendered anew and are right since.
    add column missing_count   bigint not null default 0,
    add column stale_count     bigint not null default 0,
    add column orphan_count    bigint not null default 0,
    add column repaired_count  bigint not null default 0,
    -- Documents that changed at each look, and those of rows that are too large.
    add column undecided_count bigint not null default 0,
    -- The first of the documents that differ, as a JSON array of ASCII: ids have any characters.
    add column findings        text not null default '[]',
    -- How far it has come beside `last_key`, as JSON of ASCII; null at the start.
    add column walk            text;
