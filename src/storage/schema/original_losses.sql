-- What is lost with public.elasticsearch_sync_queue and is not carried over, a sentence each.
select format('publication %I published the queue; for that to go on: alter publication %I'
           || ' add table public.elasticsearch_sync_queue', p.pubname, p.pubname) as loss
from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
where r.prrelid = 'public.elasticsearch_sync_queue'::regclass
union all
select 'row security is no longer forced on the owner of the queue, who runs walferry'
from pg_class where oid = 'public.elasticsearch_sync_queue'::regclass and relforcerowsecurity
union all
select 'what PUBLIC could do with the queue is not granted again'
from pg_class c cross join aclexplode(c.relacl) entry
where c.oid = 'public.elasticsearch_sync_queue'::regclass and entry.grantee = 0
group by c.oid
