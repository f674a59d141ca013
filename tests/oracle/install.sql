-- Test only: a second witness of every row change, inside the transaction that makes it.
create schema oracle;
create table oracle.change (
    number      bigserial primary key,
    table_name  text not null,
    operation   text not null,
    record_id   uuid not null,
    change_data jsonb not null
);
-- Every write to a row takes a new tick, so that a reader can tell which of two states is older.
create sequence oracle.tick;

-- to_jsonb prints timestamps in the session's time zone; the contract says UTC.
create function oracle.witness() returns trigger
    language plpgsql security definer set timezone = 'UTC' as
$$
begin
    insert into oracle.change (table_name, operation, record_id, change_data)
    select tg_table_name, tg_op,
           case tg_op
               when 'TRUNCATE' then '00000000-0000-0000-0000-000000000000'
               when 'DELETE' then old.id
               else new.id
           end,
           case tg_op
               when 'INSERT' then to_jsonb(new)
               when 'UPDATE' then jsonb_build_object('old', to_jsonb(old), 'new', to_jsonb(new))
               when 'DELETE' then to_jsonb(old)
               else '{}'
           end;
    return null;
end
$$;

-- What a completion field accepts: no nulls, no empty strings, none of its reserved characters.
create function oracle.inputs(texts text[]) returns jsonb language sql as
$$
    select coalesce(jsonb_agg(cleaned order by n), '[]')
    from (
        select translate(t, chr(30) || chr(31), '') as cleaned, n from unnest(texts) with ordinality as u (t, n)
    ) as inputs
    where cleaned <> ''
$$;

do
$$
declare
    name text;
begin
    foreach name in array array['profiles', 'categories', 'listings'] loop
        execute format('create trigger witness_row after insert or update or delete on %I
                        for each row execute function oracle.witness()', name);
        execute format('create trigger witness_truncate after truncate on %I
                        for each statement execute function oracle.witness()', name);
    end loop;
end
$$;
