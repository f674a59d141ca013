-- Reads the row images of claimed jobs, as many as fit, in the order given.
-- $1 ids, $2 commit times, $3 bytes of text after which no further image is read.
-- The sum is kept by the server, so that one large image after many small ones does not reach the
-- client with others of its size.
select id, change_data from (
    select n, id, change_data,
        sum(octet_length(change_data))
            over (order by n rows between unbounded preceding and 1 preceding) as bytes_before
    from (
        select j.n, q.id, q.change_data::text as change_data
        from unnest($1::bigint[], $2::timestamptz[]) with ordinality as j (id, created_at, n)
        join public.elasticsearch_sync_queue q on q.id = j.id and q.created_at = j.created_at
        offset 0
    ) images
) summed
where coalesce(bytes_before, 0) < $3
order by n
