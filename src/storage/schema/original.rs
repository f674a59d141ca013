//! The original system as it is found: whether its queue can be taken over, and the statements
//! that give what was granted on it to the table in its place. Alters nothing.
//!
//! A table that only has the name of the original queue is refused, and so is one that something
//! else is built on: it could neither be converted nor put aside without breaking that.
//!
//! Not here: the take-over itself (`take_over`).

use tokio_postgres::Client;

use super::{MigrateError, database};

const EXISTS: &str = "select exists (select from pg_class where relkind = 'r'
    and oid = to_regclass('public.elasticsearch_sync_queue'))";

/// The first column, by name, that the original table has not, or has otherwise.
const DIFFERENCE: &str = "
    with wanted (name, types) as (values
        ('id', array['integer', 'bigint']),
        ('table_name', array['character varying(100)']),
        ('operation', array['character varying(20)']),
        ('record_id', array['uuid']),
        ('change_data', array['jsonb']),
        ('status', array['character varying(20)']),
        ('retry_count', array['integer']),
        ('error_message', array['text']),
        ('created_at', array['timestamp with time zone']),
        ('processed_at', array['timestamp with time zone'])),
    found (name, type) as (
        select attname::text, format_type(atttypid, atttypmod) from pg_attribute
        where attrelid = 'public.elasticsearch_sync_queue'::regclass
          and attnum > 0 and not attisdropped)
    select case
        when f.name is null then format('it has no column %I', w.name)
        when w.name is null then format('its column %I is none of the original', f.name)
        else format('its column %I is of type %s, not %s', f.name, f.type, w.types[1]) end
    from wanted w full join found f using (name)
    where f.type is null or w.types is null or f.type <> all (w.types)
    union all
    select 'its id is not unique'
    where not exists (
        select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'id'
        where i.indrelid = 'public.elasticsearch_sync_queue'::regclass
          and i.indisunique and i.indpred is null and i.indkey::text = a.attnum::text)
    limit 1";

/// What is built on the table, its row type or its statistics: views, foreign keys, functions
/// over its rows, policies of other tables, triggers of its own.
const USER: &str = "
    with queue as (
        select c.oid, t.oid as row_type, t.typarray
        from pg_class c join pg_type t on t.oid = c.reltype
        where c.oid = 'public.elasticsearch_sync_queue'::regclass)
    select pg_describe_object(d.classid, d.objid, d.objsubid)
    from pg_depend d, queue q
    where d.deptype = 'n'
      and (d.refclassid = 'pg_class'::regclass and d.refobjid = q.oid
           or d.refclassid = 'pg_type'::regclass and d.refobjid in (q.row_type, q.typarray)
           or d.refclassid = 'pg_proc'::regclass
              and d.refobjid = to_regprocedure('public.get_elasticsearch_queue_stats()'))
      and not (d.classid = 'pg_policy'::regclass and exists (
          select from pg_policy p where p.oid = d.objid and p.polrelid = q.oid))
      and not (d.classid = 'pg_constraint'::regclass and exists (
          select from pg_constraint k where k.oid = d.objid and k.conrelid = q.oid))
    union all
    select pg_describe_object('pg_trigger'::regclass, t.oid, 0)
    from pg_trigger t, queue q where t.tgrelid = q.oid and not t.tgisinternal
    limit 1";

/// What roles hold: statement, grantee, and whether it is a role of the API, which comes to hold
/// nothing: `change_data` has private columns. An owner who is not the new one holds it all.
const GRANTS: &str = "
    with queue as (
        select oid, relowner, relacl from pg_class
        where oid = 'public.elasticsearch_sync_queue'::regclass),
    held (object, column_name, role, verb, passes_on) as (
        select 'public.elasticsearch_sync_queue', null::name,
               e.grantee, e.privilege_type, e.is_grantable
        from queue cross join aclexplode(coalesce(relacl, acldefault('r', relowner))) e
        union all
        select 'public.elasticsearch_sync_queue', a.attname,
               e.grantee, e.privilege_type, e.is_grantable
        from queue q join pg_attribute a on a.attrelid = q.oid and not a.attisdropped
        cross join aclexplode(a.attacl) e
        union all
        select 'sequence public.elasticsearch_sync_queue_id_seq', null,
               e.grantee, e.privilege_type, e.is_grantable
        from pg_class c cross join aclexplode(coalesce(c.relacl, acldefault('s', c.relowner))) e
        where c.oid = pg_get_serial_sequence('public.elasticsearch_sync_queue', 'id')::regclass
        union all
        select 'function public.get_elasticsearch_queue_stats()', null,
               e.grantee, e.privilege_type, e.is_grantable
        from pg_proc cross join aclexplode(coalesce(proacl, acldefault('f', proowner))) e
        where oid = to_regprocedure('public.get_elasticsearch_queue_stats()'))
    select format('grant %s%s on %s to %I%s', verb,
               coalesce(' (' || quote_ident(column_name) || ')', ''), object, rolname,
               case when passes_on then ' with grant option' else '' end),
           rolname::text, rolname in ('anon', 'authenticated')
    from held join pg_roles r on r.oid = role
    where rolname <> current_user
    order by rolname, object, column_name, verb";

/// The new table always has row security. Where the old one had none, and for its owner, what is
/// granted must go on showing all rows.
const POLICIES: &str = "
    select format('create policy %I on public.elasticsearch_sync_queue as %s for %s to %s%s%s',
               policyname, permissive, cmd,
               (select string_agg(quote_ident(role), ', ') from unnest(roles) role),
               coalesce(' using (' || qual || ')', ''),
               coalesce(' with check (' || with_check || ')', ''))
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
    having count(*) > 0";

const COMMENTS: &str = "
    select format('comment on column public.elasticsearch_sync_queue.%I is %L',
               a.attname, d.description)
    from pg_description d join pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid
    where d.classoid = 'pg_class'::regclass
      and d.objoid = 'public.elasticsearch_sync_queue'::regclass and d.objsubid > 0";

/// What is lost with the old table and that its owner should know of.
const LOSSES: &str = "
    select format('publication %I published the queue; for that to go on: alter publication %I'
               || ' add table public.elasticsearch_sync_queue', p.pubname, p.pubname)
    from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
    where r.prrelid = 'public.elasticsearch_sync_queue'::regclass
    union all
    select 'row security is no longer forced on the owner of the queue, who runs walferry'
    from pg_class where oid = 'public.elasticsearch_sync_queue'::regclass and relforcerowsecurity
    union all
    select 'what PUBLIC could do with the queue is not granted again'
    from pg_class c cross join aclexplode(c.relacl) entry
    where c.oid = 'public.elasticsearch_sync_queue'::regclass and entry.grantee = 0
    group by c.oid";

/// What the new table gets of the old one.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    /// Statements on the new table.
    pub(super) statements: Vec<String>,
    /// Sentences on what is not carried over.
    pub(super) notes: Vec<String>,
}

/// Whether the queue is a plain table, as the original system has it.
pub(super) async fn exists(client: &Client) -> Result<bool, MigrateError> {
    let failed = |source| database("look for the original queue", source);
    client.query_one(EXISTS, &[]).await.map_err(failed)?.try_get(0).map_err(failed)
}

/// Refuses what cannot be taken over.
pub(super) async fn check(client: &Client) -> Result<(), MigrateError> {
    let failed = |source| database("look at the original queue", source);
    if let Some(row) = client.query_opt(DIFFERENCE, &[]).await.map_err(failed)? {
        return Err(MigrateError::NotTheOriginal(row.try_get(0).map_err(failed)?));
    }
    if let Some(row) = client.query_opt(USER, &[]).await.map_err(failed)? {
        return Err(MigrateError::QueueUsed(row.try_get(0).map_err(failed)?));
    }
    let logical = "select current_setting('wal_level') = 'logical'";
    let row = client.query_one(logical, &[]).await.map_err(failed)?;
    if !row.try_get::<_, bool>(0).map_err(failed)? {
        return Err(MigrateError::WalLevel);
    }
    Ok(())
}

/// Reads what the new table gets of the old one, while that still has its name.
pub(super) async fn legacy(client: &Client) -> Result<Legacy, tokio_postgres::Error> {
    let mut legacy = Legacy::default();
    let mut withheld: Vec<String> = Vec::new();
    for row in client.query(GRANTS, &[]).await? {
        let (statement, role): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if !row.try_get::<_, bool>(2)? {
            legacy.statements.push(statement);
        } else if withheld.last() != Some(&role) {
            withheld.push(role);
        }
    }
    if !withheld.is_empty() {
        legacy.notes.push(format!(
            "what {} could do with the queue is not granted again: its change_data has private \
             columns",
            withheld.join(" and ")
        ));
    }
    for query in [POLICIES, COMMENTS] {
        for row in client.query(query, &[]).await? {
            legacy.statements.push(row.try_get(0)?);
        }
    }
    for row in client.query(LOSSES, &[]).await? {
        legacy.notes.push(row.try_get(0)?);
    }
    Ok(legacy)
}
