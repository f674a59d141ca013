//! walferry's objects for the role that runs it, and for no other role.
//!
//! An owner is not subject to row security, may COPY, make parts and execute the functions, so
//! ownership is all that the role needs of these objects. Of the source tables it needs SELECT, which their owner
//! grants.

use tokio_postgres::Client;

use super::{MigrateError, database, exclusive, patiently, quoted};
use crate::storage::queue::partitions::QUEUE;

const ROLE: &str = "select from pg_roles where rolname = $1";

const HAND_OVER: &str = include_str!("rights_hand_over.sql");

/// A new owner must be able to create in the schema, unless a superuser hands over.
const MAY_CREATE: &str = "select has_schema_privilege($1::text, 'public', 'create')
    or (select rolsuper from pg_roles where rolname = current_user) as may_create";

const OTHER_OWNER: &str = "select r.rolname::text as name
    from pg_class c join pg_roles r on r.oid = c.relowner
    where c.oid = 'public.elasticsearch_sync_queue'::regclass and r.rolname <> current_user";

/// Checks that the role exists.
///
/// # Errors
/// [`MigrateError`], with the role's name.
pub(super) async fn check_role(client: &Client, role: &str) -> Result<(), MigrateError> {
    let failed = |source| database("look for the runtime role", source);
    match client.query_opt(ROLE, &[&role]).await.map_err(failed)? {
        Some(_) => Ok(()),
        None => Err(MigrateError::NoRole(quoted(role))),
    }
}

/// The role that owns the queue, if it is not the one that migrates.
pub(super) async fn other_owner(client: &Client) -> Result<Option<String>, MigrateError> {
    let failed = |source| database("look for the owner of the queue", source);
    let row = client.query_opt(OTHER_OWNER, &[]).await.map_err(failed)?;
    row.map(|row| row.try_get("name").map_err(failed)).transpose()
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
    let lend = !row.try_get::<_, bool>("may_create").map_err(failed)?;
    let mut names = Vec::new();
    let mut sql = String::from("begin;");
    if lend {
        sql.push_str(&format!("grant create on schema public to {name};"));
    }
    for row in &rows {
        names.push(row.try_get("name").map_err(failed)?);
        sql.push_str(row.try_get("statement").map_err(failed)?);
        sql.push(';');
    }
    if lend {
        sql.push_str(&format!("revoke create on schema public from {name};"));
    }
    sql.push_str("commit");
    patiently(client, &exclusive(QUEUE), failed, || client.batch_execute(&sql)).await?;
    Ok(names)
}
