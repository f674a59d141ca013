-- Reads the row images of claimed jobs, as many as fit, in the order given.
-- $1 ids, $2 commit times, $3 bytes of text after which no further image is read.
-- The sum is kept by the server, so that one large image after many small ones does not reach the
-- client with others of its size. Of a large image, values over 1 KiB are given as their hash: the
-- rows themselves are read from the tables, and an image only says which they are and what changed.
select id, change_data from (
    select n, id, change_data,
        sum(octet_length(change_data))
            over (order by n rows between unbounded preceding and 1 preceding) as bytes_before
    from (
        select n, id,
            case
                when octet_length(whole) <= 1048576 or jsonb_typeof(change_data) <> 'object' then whole
                when operation = 'UPDATE' then (
                    select jsonb_object_agg(part.key, case jsonb_typeof(part.value) when 'object' then (
                        select jsonb_object_agg(v.key, case
                            when octet_length(v.value::text) <= 1024 then v.value
                            else to_jsonb(md5(v.value::text)) end)
                        from jsonb_each(part.value) v) else part.value end)::text
                    from jsonb_each(change_data) part)
                else (
                    select jsonb_object_agg(v.key, case
                        when octet_length(v.value::text) <= 1024 then v.value
                        else to_jsonb(md5(v.value::text)) end)::text
                    from jsonb_each(change_data) v)
            end as change_data
        from (
            select j.n, q.id, q.operation, q.change_data, q.change_data::text as whole
            from unnest($1::bigint[], $2::timestamptz[]) with ordinality as j (id, created_at, n)
            join public.elasticsearch_sync_queue q on q.id = j.id and q.created_at = j.created_at
            offset 0
        ) read
        offset 0
    ) images
) summed
where coalesce(bytes_before, 0) < $3
order by n
