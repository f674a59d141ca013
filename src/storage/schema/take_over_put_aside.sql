-- Puts the original queue aside, where its former owner can add nothing to it; its indexes and its
-- sequence go along.
alter table public.elasticsearch_sync_queue set schema walferry;
alter table walferry.elasticsearch_sync_queue rename to original_queue;
alter table walferry.original_queue owner to current_user;
do $$
declare
    grantee text;
begin
    for grantee in
        select distinct r.rolname
        from pg_class c cross join aclexplode(c.relacl) e join pg_roles r on r.oid = e.grantee
        where c.oid = 'walferry.original_queue'::regclass and r.oid <> c.relowner
    loop
        execute format('revoke all on walferry.original_queue from %I cascade', grantee);
    end loop;
end $$;
revoke all on walferry.original_queue from public;
drop function if exists public.get_elasticsearch_queue_stats()
