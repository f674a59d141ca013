-- What each index must hold, from the rows that stand in the tables now.
with recursive ancestry as (
    select id as category_id, parent_id, array[id] as seen, array[name] as path from categories
    union all
    select a.category_id, p.parent_id, a.seen || p.id, p.name || a.path
    from ancestry a
    join categories p on p.id = a.parent_id
    where p.id <> all (a.seen)
),
paths as (
    select distinct on (category_id) category_id, path
    from ancestry
    order by category_id, cardinality(seen) desc
),
active as (
    select * from listings where status = 'active'
),
documents (index_name, id, document) as (
    select 'listings', l.id::text,
           to_jsonb(l)
           || case when l.latitude is null or l.longitude is null then '{}'
                   else jsonb_build_object('location', jsonb_build_object('lat', l.latitude, 'lon', l.longitude)) end
           || jsonb_build_object(
                  'seller', jsonb_build_object(
                      'id', p.id, 'username', p.username, 'full_name', p.full_name, 'avatar_url', p.avatar_url,
                      'location', p.location, 'rating', p.rating, 'is_verified', p.is_verified),
                  'category', jsonb_build_object(
                      'id', c.id, 'name', c.name, 'slug', c.slug, 'path', paths.path))
    from active l
    join profiles p on p.id = l.user_id
    join categories c on c.id = l.category_id
    join paths on paths.category_id = c.id
    union all
    select 'profiles', id::text, to_jsonb(p) - 'email' - 'phone' from profiles p
    union all
    select 'categories', c.id::text, to_jsonb(c) || jsonb_build_object('path', paths.path)
    from categories c
    join paths on paths.category_id = c.id
    union all
    select 'ai_suggestions', 'category:' || c.id,
           jsonb_build_object(
               'kind', 'category', 'text', c.name, 'category_id', c.id, 'path', paths.path,
               'suggest', jsonb_build_object('input', oracle.inputs(c.name || c.keywords), 'weight', 10))
    from categories c
    join paths on paths.category_id = c.id
    where c.is_active
    union all
    select 'ai_suggestions', 'listing:' || l.id,
           jsonb_build_object(
               'kind', 'listing', 'text', l.title, 'category_id', l.category_id, 'path', paths.path,
               'suggest', jsonb_build_object('input', oracle.inputs(l.title || l.tags), 'weight', 1))
    from active l
    join paths on paths.category_id = l.category_id
)
select index_name, id, document::text from documents where index_name = $1
