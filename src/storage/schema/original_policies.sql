-- Statements that give the new table the policies of public.elasticsearch_sync_queue. The new table
-- always has row security. Where the old one had none, and for its owner, what is granted must go on
-- showing all rows.
select format('create policy %I on public.elasticsearch_sync_queue as %s for %s to %s%s%s',
           policyname, permissive, cmd,
           (select string_agg(quote_ident(role), ', ') from unnest(roles) role),
           coalesce(' using (' || qual || ')', ''),
           coalesce(' with check (' || with_check || ')', '')) as statement
from pg_policies
where schemaname = 'public' and tablename = 'elasticsearch_sync_queue'
union all
select format('create policy walferry_taken_over on public.elasticsearch_sync_queue'
           || ' to %s using (true) with check (true)',
           string_agg(distinct quote_ident(r.rolname), ', '))
from pg_class c
cross join aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) entry
join pg_roles r on r.oid = entry.grantee
where c.oid = 'public.elasticsearch_sync_queue'::regclass
  and (not c.relrowsecurity or r.oid = c.relowner)
  and not r.rolbypassrls and not r.rolsuper
  and r.rolname <> all (array[current_user, 'anon', 'authenticated'])
  and not exists (select from pg_default_acl d cross join aclexplode(d.defaclacl) e
                  where e.grantee = r.oid and d.defaclnamespace in (0, 'public'::regnamespace))
having count(*) > 0
