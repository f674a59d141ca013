//! walferry's objects for the role that runs it, and for nobody else.
//!
//! An owner is not subject to row security and may COPY and make parts, so ownership is all that
//! the role needs of these objects. Of the source tables it needs SELECT, which their owner
//! grants.

use tokio_postgres::Client;

use super::{MigrateError, database, patiently, quoted};

const ROLE: &str = "select from pg_roles where rolname = $1";

/// Statements that hand each object over, and its name. Parts before the whole, the schema first;
/// indexes and the owned sequence follow their tables.
const HAND_OVER: &str = "select format('schema %I', nspname), format(
            'alter schema %I owner to %I', nspname, $1::text)
    from pg_namespace where nspname = 'walferry' and nspowner <> (select oid from pg_roles where rolname = $1::text)
    union all
    select format('table %I.%I', n.nspname, c.relname), format(
            'alter table %I.%I owner to %I', n.nspname, c.relname, $1::text)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where (n.nspname = 'walferry'
           or n.nspname = 'public' and c.relname = 'elasticsearch_sync_queue')
      and c.relkind in ('r', 'p') and c.relowner <> (select oid from pg_roles where rolname = $1::text)
    union all
    select format('function %s', p.oid::regprocedure), format(
            'alter function %s owner to %I', p.oid::regprocedure, $1::text)
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where (n.nspname = 'walferry'
           or n.nspname = 'public' and p.proname = 'get_elasticsearch_queue_stats'
              and p.pronargs = 0)
      and p.proowner <> (select oid from pg_roles where rolname = $1::text)";

/// A new owner must be able to create in the schema, unless a superuser hands over.
const MAY_CREATE: &str = "select has_schema_privilege($1::text, 'public', 'create')
    or (select rolsuper from pg_roles where rolname = current_user)";

pub(super) async fn check_role(client: &Client, role: &str) -> Result<(), MigrateError> {
    let failed = |source| database("look for the runtime role", source);
    match client.query_opt(ROLE, &[&role]).await.map_err(failed)? {
        Some(_) => Ok(()),
        None => Err(MigrateError::NoRole(quoted(role))),
    }
}

/// Makes `role` the owner of all that walferry made. Returns what changed hands.
pub(super) async fn hand_over(client: &Client, role: &str) -> Result<Vec<String>, MigrateError> {
    let failed = |source| database(format!("hand walferry's objects to role {role}"), source);
    let name = quoted(role);
    let rows = client.query(HAND_OVER, &[&role]).await.map_err(failed)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let row = client.query_one(MAY_CREATE, &[&role]).await.map_err(failed)?;
    let lend = !row.try_get::<_, bool>(0).map_err(failed)?;
    let mut names = Vec::new();
    let mut sql = String::from("begin;");
    if lend {
        sql.push_str(&format!("grant create on schema public to {name};"));
    }
    for row in &rows {
        names.push(row.try_get(0).map_err(failed)?);
        sql.push_str(row.try_get(1).map_err(failed)?);
        sql.push(';');
    }
    if lend {
        sql.push_str(&format!("revoke create on schema public from {name};"));
    }
    sql.push_str("commit");
    patiently(client, || client.batch_execute(&sql)).await.map_err(failed)?;
    Ok(names)
}
