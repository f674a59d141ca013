//! Prepares the database: walferry's own objects, the publication, the replica identities.
//!
//! Everything is checked before anything is altered, every step may run again, and locks on tables
//! in use are short and given up rather than waited for, so it is safe beside a running instance.
//!
//! A database in which the original system lives is taken over (`take_over`).
//!
//! Not here: the replication slot of a database that has no queue yet, which the first run makes.

mod definitions;
mod error;
mod notes;
mod original;
mod publication;
mod rights;
mod take_over;
pub mod take_over_state;

use std::future::Future;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::advisory;
use super::doing;
use super::queue::partitions::{self, QUEUE};
use crate::change::Lsn;
use crate::postgres::lock::{LIMIT_SESSION_WAITS, LockError, LockMode, TableLocks};

pub use error::MigrateError;

/// In the order in which they run; the place, counted from 1, is the version.
const MIGRATIONS: &[(&str, &str)] = &[
    ("sync_queue", include_str!("../../../migrations/0001_sync_queue.sql")),
    ("durable_state", include_str!("../../../migrations/0002_durable_state.sql")),
    ("queue_stats", include_str!("../../../migrations/0003_queue_stats.sql")),
    ("job_counts", include_str!("../../../migrations/0004_job_counts.sql")),
    ("drop_partitions", include_str!("../../../migrations/0005_drop_partitions.sql")),
    ("indexing", include_str!("../../../migrations/0006_indexing.sql")),
    ("source", include_str!("../../../migrations/0007_source.sql")),
    ("take_over", include_str!("../../../migrations/0008_take_over.sql")),
    ("audit", include_str!("../../../migrations/0009_audit.sql")),
    ("note", include_str!("../../../migrations/0010_note.sql")),
    ("partition", include_str!("../../../migrations/0011_partition.sql")),
    ("fanout", include_str!("../../../migrations/0012_fanout.sql")),
    ("waits_for", include_str!("../../../migrations/0013_waits_for.sql")),
    ("rights", include_str!("../../../migrations/0014_rights.sql")),
    ("fanout_waits", include_str!("../../../migrations/0015_fanout_waits.sql")),
    ("discarded", include_str!("../../../migrations/0016_discarded.sql")),
    ("operation", include_str!("../../../migrations/0017_operation.sql")),
    ("verify", include_str!("../../../migrations/0018_verify.sql")),
];

const FOUNDATION: &str = include_str!("foundation.sql");

/// \"walferry\" in ASCII: one migration at a time in a database.
const ADVISORY_LOCK: i64 = 0x7761_6c66_6572_7279;

/// The time for a step whose locks other transactions hold.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to prepare.
#[derive(Clone, Debug)]
pub struct MigrateOptions {
    /// Schema and name of each table to publish.
    pub tables: Vec<(String, String)>,
    pub publication: String,
    /// The slot, which a take-over makes.
    pub slot: String,
    /// The role that `walferry run` connects as: it may use walferry's objects, which the role that
    /// migrates owns. `None` grants nothing, except rights on new objects to the role that an earlier
    /// call named.
    pub runtime_role: Option<String>,
}

/// What was done; empty where all was in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Migrations applied, by name.
    pub applied: Vec<&'static str>,
    pub publication_created: bool,
    /// Tables added to an existing publication.
    pub tables_added: Vec<String>,
    /// Tables, or parts of them, set to REPLICA IDENTITY FULL.
    pub identities_set: Vec<String>,
    /// Tables, or parts of them, set to REPLICA IDENTITY DEFAULT, since their generated columns
    /// exclude FULL.
    pub identities_default: Vec<String>,
    /// Day parts of the queue made.
    pub partitions_made: i32,
    /// Objects that the runtime role was given rights on.
    pub granted: Vec<String>,
    /// Tables whose row security was switched off, since it would filter the runtime role.
    pub unsecured: Vec<String>,
    /// Rights of other roles on these tables that row security kept from being of use.
    pub revoked: Vec<String>,
    /// Rights on these objects that default privileges had given to other roles, taken away.
    pub withheld: Vec<String>,
    /// The role that owned walferry's objects, if they were taken back from it.
    pub taken_back_from: Option<String>,
    /// The original system's queue, if it was taken over now or the rest of it was.
    pub taken_over: Option<TakenOver>,
}

/// What became of the original system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Changes that committed at or below it have their jobs from the original triggers.
    pub at: Lsn,
    pub slot_created: bool,
    /// Rows that came into the new table, by their status in the old one.
    pub rows: Vec<(String, i64)>,
    /// Triggers and functions.
    pub dropped: Vec<String>,
    /// What could not be carried over, a sentence each.
    pub notes: Vec<String>,
}

/// Prepares the database that `client` is connected to, as the owner of the tables.
///
/// # Errors
/// [`MigrateError`]; each step that was completed stays, and the next call goes on from there.
pub async fn run(client: &Client, options: &MigrateOptions) -> Result<Report, MigrateError> {
    client
        .batch_execute(
            "set lock_timeout = '60s'; set client_min_messages = warning; \
             set search_path = pg_catalog, pg_temp",
        )
        .await
        .map_err(doing("set up the session"))?;
    lock(client).await?;
    let outcome = locked(client, options).await;
    let unlock = format!(
        "select pg_advisory_unlock({ADVISORY_LOCK}); reset lock_timeout; reset search_path"
    );
    let unlocked = client.batch_execute(&unlock).await;
    let report = outcome?;
    unlocked.map_err(|source| database("release the migration lock", source))?;
    Ok(report)
}

/// Takes the lock on migrations; waits for another migration, and for no session of another kind.
async fn lock(client: &Client) -> Result<(), MigrateError> {
    let failed = |source| database("take the migration lock", source);
    let wait = async || {
        let holder = advisory::holder(client, ADVISORY_LOCK).await.map_err(failed)?;
        let lock = format!("select pg_advisory_lock({ADVISORY_LOCK})");
        match holder {
            // Any login may take the lock. Each migration is one transaction with its number, so that
            // migrations that meet without this lock end one of them, and break nothing.
            Some(holder) if !holder.is_ours => {
                tracing::warn!(
                    event = "lock_held_by_stranger",
                    pid = holder.pid,
                    role = holder.role,
                    application = holder.application,
                    "another role's session holds the lock on migrations; it is not waited for"
                );
                Ok(true)
            }
            _ => match client.batch_execute(&lock).await {
                Err(source) if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
                done => done.map(|()| true).map_err(failed),
            },
        }
    };
    while !wait().await? {
        // Its holder may have changed meanwhile.
        match advisory::holder(client, ADVISORY_LOCK).await.map_err(failed)? {
            Some(holder) if holder.is_ours => return Err(MigrateError::Busy(holder)),
            _ => {}
        }
    }
    Ok(())
}

async fn locked(client: &Client, options: &MigrateOptions) -> Result<Report, MigrateError> {
    let has_original = original::exists(client).await?;
    let former_owner = rights::check_owners(client, options.runtime_role.as_deref()).await?;
    check_server(client, has_original, former_owner.as_deref(), options).await?;
    if has_original {
        original::check(client, &options.tables).await?;
    }
    let plan = publication::plan(client, options).await?;
    if let Some(role) = &options.runtime_role {
        rights::check_role(client, role).await?;
    }
    client
        .batch_execute(LIMIT_SESSION_WAITS)
        .await
        .map_err(|source| database("set up the session", source))?;
    let mut report = Report::default();
    if let Some(role) = former_owner {
        let applied = rights::applied(client, &role).await?;
        rights::take_back(client, &role, applied).await?;
        report.taken_back_from = Some(role);
    }
    if has_original {
        publication::apply(client, &plan, &mut report).await?;
        let slot_created = take_over::make_slot(client, options).await?;
        let (taken, applied) = take_over::cut(client, options, slot_created).await?;
        tracing::info!(
            event = "taken_over", lsn = %taken.at,
            "the original system is taken over; finished jobs follow"
        );
        report.applied = applied;
        report.taken_over = Some(TakenOver { slot_created, ..taken });
    } else {
        let runners = rights::runtime_roles(client).await?;
        report.applied = migrate(client).await?;
        if !report.applied.is_empty() {
            report.withheld = rights::withhold(client, &runners).await?;
        }
        report.partitions_made = partitions::make(client, None, partitions::DAYS_AHEAD).await?;
        publication::apply(client, &plan, &mut report).await?;
    }
    if let Some(at) = take_over::unfinished(client).await? {
        let taken = report.taken_over.get_or_insert(TakenOver { at, ..TakenOver::default() });
        take_over::finish(client, options, taken).await?;
    }
    notes::finish(client).await?;
    let mut roles = rights::runtime_roles(client).await?;
    roles.extend(options.runtime_role.clone().filter(|role| !roles.contains(role)));
    for role in roles {
        rights::grant(client, &role, &mut report).await?;
    }
    Ok(report)
}

async fn check_server(
    client: &Client,
    has_original: bool,
    former_owner: Option<&str>,
    options: &MigrateOptions,
) -> Result<(), MigrateError> {
    let failed = |source| database("look at the database", source);
    let query = "select current_setting('server_version_num')::int as version,
        to_regclass('walferry.migration') is not null as is_prepared";
    let row = client.query_one(query, &[]).await.map_err(failed)?;
    let version: i32 = row.try_get("version").map_err(failed)?;
    if version < 140_000 {
        return Err(MigrateError::ServerTooOld(version / 10_000));
    }
    if row.try_get("is_prepared").map_err(failed)? {
        let found = match former_owner {
            Some(role) => rights::applied(client, role).await?,
            None => applied(client).await?,
        };
        let known = known();
        if found > known {
            return Err(MigrateError::Newer { found, known });
        }
        if has_original && found > 0 {
            return Err(MigrateError::OriginalAgain { slot: options.slot.clone() });
        }
    }
    Ok(())
}

fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).expect("migrations are few")
}

async fn applied(client: &Client) -> Result<i32, MigrateError> {
    let failed = |source| database("read which migrations are applied", source);
    let query = "select coalesce(max(version), 0) as version from walferry.migration";
    let row = client.query_one(query, &[]).await.map_err(failed)?;
    row.try_get("version").map_err(failed)
}

async fn migrate(client: &Client) -> Result<Vec<&'static str>, MigrateError> {
    // `if not exists` would still ask for the right to create, which a runtime role lacks.
    let founded = "select to_regclass('walferry.migration') is not null as is_founded";
    let failed = |source| database("create the schema walferry", source);
    let row = client.query_one(founded, &[]).await.map_err(failed)?;
    if !row.try_get::<_, bool>("is_founded").map_err(failed)? {
        client.batch_execute(FOUNDATION).await.map_err(failed)?;
    }
    let mut names = Vec::new();
    let done = applied(client).await?;
    for (version, (name, text)) in (1..).zip(MIGRATIONS) {
        if version <= done {
            continue;
        }
        let failed = |source| MigrateError::Migration { name, source };
        let step = format!(
            "begin; {text}; insert into walferry.migration (version, name) \
             values ({version}, '{name}'); commit"
        );
        let locks = exclusive(QUEUE);
        patiently(client, &locks, failed, || client.batch_execute(&step)).await?;
        names.push(*name);
    }
    Ok(names)
}

/// The locks of a step that alters this table.
fn exclusive(table: impl Into<String>) -> TableLocks {
    let tables = vec![table.into()];
    TableLocks { tables, mode: LockMode::AccessExclusive, patience: PATIENCE }
}

/// Repeats a step while another transaction is in the way of its locks.
async fn patiently<F, T>(
    client: &Client,
    locks: &TableLocks,
    failed: impl Fn(tokio_postgres::Error) -> MigrateError,
    step: impl FnMut() -> F,
) -> Result<T, MigrateError>
where
    F: Future<Output = Result<T, tokio_postgres::Error>>,
{
    locks.retry(client, step).await.map_err(|error| match error {
        LockError::Database(source) => failed(source),
        blocked @ LockError::Blocked { .. } => MigrateError::Lock(blocked),
    })
}

fn database(what: impl Into<String>, source: tokio_postgres::Error) -> MigrateError {
    MigrateError::Database { what: what.into(), source }
}

/// A name as SQL has it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a"), "\"a\"");
        assert_eq!(quoted("a\"b; drop"), "\"a\"\"b; drop\"");
    }
}
