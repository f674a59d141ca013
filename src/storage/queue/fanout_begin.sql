-- Stores a fan-out that begins, with its jobs, by id or by position.
-- $1 slot, $2 the changed table, $3 the table that is rewritten, $4 its column, $5 whether paths are
-- shown, $6 the numbers of groups by value (null: all rows), $7 and $8 the positions of the groups;
-- then by job: $9 the group, $10 the id, $11 and $12 the position, $13 the error, $14 the index that it
-- waits for; $15 and $16 the earliest and the latest commit time.
with begun as (
    insert into walferry.fanout (slot, changed_table, table_name, column_name, is_path,
        group_numbers, commit_lsns, ordinals)
    values ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8)
    returning id
), job as (
    select * from unnest($9::integer[], $10::bigint[], $11::pg_lsn[], $12::bigint[], $13::text[],
            $14::text[])
        as j (group_number, id, commit_lsn, ordinal, error, waits_for)
), found as (
    select j.group_number, q.id, q.created_at, j.error, j.waits_for
    from job j join public.elasticsearch_sync_queue q on q.id = j.id
    where q.status || '' = 'processing' and q.created_at >= $15 and q.created_at <= $16
    union all
    select j.group_number, q.id, q.created_at, j.error, j.waits_for
    from job j join public.elasticsearch_sync_queue q
        on q.commit_lsn = j.commit_lsn and q.ordinal = j.ordinal
    where q.status || '' = 'processing' and q.created_at >= $15 and q.created_at <= $16
)
insert into walferry.fanout_job (fanout, group_number, job_id, job_created_at, error, waits_for)
select b.id, f.group_number, f.id, f.created_at, f.error, f.waits_for from begun b, found f
on conflict do nothing
