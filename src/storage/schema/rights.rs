//! Rights on walferry's objects: the role that migrates owns them, the role that runs walferry may
//! use them.
//!
//! All that `walferry migrate` executes runs with the rights of the role that migrates. So none
//! of it may belong to another role: the runtime role reads and writes rows and executes functions,
//! and can replace neither a function nor a table. Earlier versions made it the owner; what it owns
//! is taken back, and put back to its own definition, before anything of it is executed.
//!
//! Of the source tables the runtime role needs SELECT, which their owner grants.

use tokio_postgres::{Client, Error, Row};

use super::{MigrateError, Report, database, definitions, exclusive, patiently, quoted};
use crate::storage::queue::partitions::QUEUE;

const ROLE: &str = "select rolbypassrls or rolsuper as sees_all from pg_roles where rolname = $1";

/// Whether a policy, other than one of a take-over that shows all rows, filters the queue.
const IS_FILTERED: &str = "select exists (select from pg_policies
    where schemaname = 'public' and tablename = 'elasticsearch_sync_queue'
      and policyname <> 'walferry_taken_over') as is_filtered";

const OWNERS: &str = include_str!("rights_owner.sql");

const TAKE_BACK: &str = include_str!("rights_take_back.sql");

const REPLACED: &str = include_str!("rights_replaced.sql");

const ADDED: &str = include_str!("rights_added.sql");

const UNTRUSTED: &str = include_str!("rights_untrusted.sql");

const DEFAULT: &str = include_str!("rights_default.sql");

const GRANT: &str = include_str!("rights_grant.sql");

/// Who runs walferry, as far as an earlier call has granted it.
const RUNTIME_ROLES: &str = "select distinct r.rolname::text as name
    from pg_class c cross join aclexplode(c.relacl) e join pg_roles r on r.oid = e.grantee
    where c.oid = to_regclass('walferry.lease') and e.privilege_type = 'UPDATE'
      and e.grantee <> c.relowner";

/// Walferry's tables, by their names.
const OWN_TABLES: &str = "select format('%I.%I', n.nspname, c.relname) as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and (n.nspname = 'walferry'
        or n.nspname = 'public' and c.relname = 'elasticsearch_sync_queue')";

/// Checks that the role exists and can be given what it needs.
///
/// # Errors
/// [`MigrateError`], with the role's name.
pub(super) async fn check_role(client: &Client, role: &str) -> Result<(), MigrateError> {
    let failed = |source| database("look for the runtime role", source);
    let Some(row) = client.query_opt(ROLE, &[&role]).await.map_err(failed)? else {
        return Err(MigrateError::NoRole(quoted(role)));
    };
    if row.try_get("sees_all").map_err(failed)? {
        return Ok(());
    }
    let row = client.query_one(IS_FILTERED, &[]).await.map_err(failed)?;
    match row.try_get("is_filtered").map_err(failed)? {
        true => Err(MigrateError::RoleFiltered(quoted(role))),
        false => Ok(()),
    }
}

/// Checks who owns what is walferry's. Returns the runtime role if it owns some of it, which is to
/// be taken back. Reads the catalog only.
///
/// # Errors
/// [`MigrateError::ForeignOwner`]: another role does.
pub(super) async fn check_owners(
    client: &Client,
    runtime_role: Option<&str>,
) -> Result<Option<String>, MigrateError> {
    let failed = |source| database("look for the owner of the queue", source);
    let mut owns = None;
    for row in client.query(OWNERS, &[]).await.map_err(failed)? {
        let owner: String = row.try_get("owner").map_err(failed)?;
        let object: String = row.try_get("name").map_err(failed)?;
        if Some(owner.as_str()) != runtime_role {
            return Err(MigrateError::ForeignOwner { object, owner });
        }
        if stands_in_for_a_table(&object) {
            return Err(MigrateError::Added { object, role: owner });
        }
        owns = Some(owner);
    }
    Ok(owns)
}

/// Whether an object that is no table has the name of one that walferry reads. To read it would be to
/// execute what its owner made it of.
fn stands_in_for_a_table(object: &str) -> bool {
    let Some((kind, name)) = object.split_once(" walferry.") else { return false };
    kind != "table" && (name == "migration" || definitions::tables().contains(&name))
}

/// How many migrations are applied to a database whose objects `role` may replace at any moment.
///
/// # Errors
/// [`MigrateError`], as [`check_owners`].
pub(super) async fn applied(client: &Client, role: &str) -> Result<i32, MigrateError> {
    let failed = |source| database("read which migrations are applied", source);
    // Under the lock the table stays a table.
    let lock = "begin; lock table only walferry.migration in access share mode";
    client.batch_execute(lock).await.map_err(failed)?;
    let read = async {
        check_owners(client, Some(role)).await?;
        super::applied(client).await
    };
    let read = read.await;
    client.batch_execute("rollback").await.map_err(failed)?;
    read
}

/// Makes the role that migrates the owner of what `role` owns, and each function and view what the
/// first `applied` migrations define, all in one transaction.
///
/// # Errors
/// [`MigrateError::Added`]: the role has added to it what would run with the rights of the role that
/// migrates. Nothing is changed.
pub(super) async fn take_back(
    client: &Client,
    role: &str,
    applied: i32,
) -> Result<(), MigrateError> {
    let failed =
        |source| database(format!("take walferry's objects back from role {role}"), source);
    let names: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&role, &definitions::tables(), &definitions::views()];
    let mut sql = String::from("begin;");
    for row in client.query(TAKE_BACK, &names).await.map_err(failed)? {
        sql.push_str(row.try_get("statement").map_err(failed)?);
        sql.push(';');
    }
    for statement in definitions::replacements(applied) {
        sql.push_str(&statement);
        sql.push(';');
    }
    sql.push_str(REPLACED);
    let step = || async {
        client.batch_execute(&sql).await?;
        let added = added(client).await?;
        client.batch_execute(if added.is_some() { "rollback" } else { "commit" }).await?;
        Ok(added)
    };
    let added = patiently(client, &exclusive(QUEUE), failed, step).await?;
    match added {
        Some(object) => Err(MigrateError::Added { object, role: role.to_owned() }),
        None => Ok(()),
    }
}

/// What has been added to walferry's objects; read in the transaction that has their locks.
async fn added(client: &Client) -> Result<Option<String>, Error> {
    if let Some(row) = client.query_opt(OWNERS, &[]).await? {
        return row.try_get("name").map(Some);
    }
    if let Some(row) = client.query_opt(ADDED, &[]).await? {
        return row.try_get("name").map(Some);
    }
    let rows = client.query(OWN_TABLES, &[]).await?;
    let tables: Result<Vec<String>, Error> = rows.iter().map(|row| row.try_get("name")).collect();
    let found = untrusted(client, &tables?).await?;
    Ok(found.map(|found| found.user))
}

/// A default, constraint, index or the like that uses what another role owns.
#[derive(Debug)]
pub(super) struct UntrustedUse {
    pub(super) user: String,
    pub(super) used: String,
    pub(super) owner: String,
}

/// A use of what another role owns by these tables, if there is one. Reads the catalog only.
pub(super) async fn untrusted(
    client: &Client,
    tables: &[String],
) -> Result<Option<UntrustedUse>, Error> {
    let Some(row) = client.query_opt(UNTRUSTED, &[&tables]).await? else { return Ok(None) };
    Ok(Some(UntrustedUse {
        user: row.try_get("user_of_it")?,
        used: row.try_get("used")?,
        owner: row.try_get("owner")?,
    }))
}

/// The roles that an earlier call gave the rights to run walferry.
pub(super) async fn runtime_roles(client: &Client) -> Result<Vec<String>, MigrateError> {
    let failed = |source| database("look for the runtime role", source);
    let rows = client.query(RUNTIME_ROLES, &[]).await.map_err(failed)?;
    rows.iter().map(|row| row.try_get("name").map_err(failed)).collect()
}

/// Statements that take away what default privileges gave to other roles than `kept` on the objects
/// that were made, each with whose rights on what these are.
pub(super) async fn of_defaults(
    client: &Client,
    kept: &[String],
) -> Result<Vec<(String, String)>, MigrateError> {
    let failed = |source| database("look for what default privileges have given", source);
    let rows = client.query(DEFAULT, &[&kept]).await.map_err(failed)?;
    let read = |row: &Row| Ok((row.try_get("statement")?, row.try_get("name")?));
    rows.iter().map(|row| read(row).map_err(failed)).collect()
}

/// Takes away what default privileges gave; returns whose rights on what.
pub(super) async fn withhold(
    client: &Client,
    kept: &[String],
) -> Result<Vec<String>, MigrateError> {
    let failed = |source| database("take away what default privileges have given", source);
    let mut names = Vec::new();
    for (statement, name) in of_defaults(client, kept).await? {
        let step = || client.batch_execute(&statement);
        patiently(client, &exclusive(QUEUE), failed, step).await?;
        names.push(name);
    }
    Ok(names)
}

/// Grants `role` what it lacks of the rights to run walferry, and reports what they are on.
pub(super) async fn grant(
    client: &Client,
    role: &str,
    report: &mut Report,
) -> Result<(), MigrateError> {
    let failed = |source| database(format!("hand walferry's objects to role {role}"), source);
    let rows = client.query(GRANT, &[&role]).await.map_err(failed)?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut sql = String::from("begin;");
    for row in &rows {
        sql.push_str(row.try_get("statement").map_err(failed)?);
        sql.push(';');
    }
    sql.push_str("commit");
    patiently(client, &exclusive(QUEUE), failed, || client.batch_execute(&sql)).await?;
    for row in &rows {
        let names = match row.try_get("kind").map_err(failed)? {
            "unsecured" => &mut report.unsecured,
            "revoked" => &mut report.revoked,
            _ => &mut report.granted,
        };
        names.push(row.try_get("name").map_err(failed)?);
    }
    Ok(())
}
