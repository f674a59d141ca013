-- Drops the original queue, which must be empty.
do $$
begin
    if exists (select from walferry.original_queue) then
        raise exception 'walferry.original_queue still has rows';
    end if;
    drop table walferry.original_queue;
    update walferry.take_over set finished_at = now() where finished_at is null;
end $$
