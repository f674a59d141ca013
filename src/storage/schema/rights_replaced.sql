-- Makes the role that migrates the owner of the functions that this transaction replaced by their
-- own definitions.
do $$
declare
    replaced regprocedure;
begin
    for replaced in
        select p.oid from pg_catalog.pg_proc p
        join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ('walferry', 'public')
          and p.xmin = pg_catalog.pg_current_xact_id()::xid
    loop
        execute pg_catalog.format('alter function %s owner to current_user', replaced);
    end loop;
    -- Needed only until all notes are moved.
    if to_regclass('walferry.note_move') is null then
        drop function if exists walferry.move_notes(integer);
    end if;
end $$
