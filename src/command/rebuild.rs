//! `walferry rebuild`: drops the slot and the stored position, so that the next run starts over.
//!
//! The slot goes first: should the rest fail, the next run stops and names this command, rather
//! than read an old slot from a new position.
//!
//! Not here: the new indices and the load; the next run makes them, because the generation is
//! higher. The queue and its jobs stay; unfinished ones are closed, since the load does their work.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::postgres::catalog;

/// The next run does not start over.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(
        "this drops slot {slot} and has the next run load all rows into new indices; searches are \
         served from the old ones until then; say so with --yes"
    )]
    NotConfirmed { slot: String },
    #[error("walferry is running with slot {slot}; stop it first")]
    Running { slot: String },
    #[error(
        "slot {slot} is that of database {owner}, and this is database {database}: it is left alone; \
         set WALFERRY_SLOT to this database's own slot"
    )]
    OtherDatabase { slot: String, owner: String, database: String },
    #[error("the database is not prepared; run `walferry migrate`")]
    NotMigrated,
    #[error("could not {what}")]
    Database {
        what: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
}

impl RebuildError {
    /// The process' exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotConfirmed { .. } => 2,
            Self::Running { .. }
            | Self::OtherDatabase { .. }
            | Self::NotMigrated
            | Self::Database { .. } => 3,
        }
    }
}

/// A holder's lease row stays locked until the end, so none can begin meanwhile.
const LEASE: &str = "select is_held from walferry.lease_state where slot = $1 for update";

/// Fences off a predecessor that sleeps.
const RAISE_EPOCH: &str = "update walferry.lease set epoch = epoch + 1 where slot = $1";

const FORGET_POSITION: &str = "
    update walferry.position set generation = generation + 1, recorded_lsn = '0/0',
           recorded_ordinal = 0, recorded_end_lsn = '0/0' where slot = $1";

const FORGET_SETTLEMENT: &str = "
    update walferry.settlement set settled_lsn = '0/0', read_ahead_lsn = '0/0' where slot = $1";

/// Their positions and transactions mean nothing to another slot; the load renders their rows.
const CLOSE_UNFINISHED: &str = "-- moves: pending -> completed, processing -> completed
    update public.elasticsearch_sync_queue
    set status = 'completed', processed_at = clock_timestamp(),
        error_message = concat_ws(E'\\n', error_message, 'superseded by a rebuild')
    where status in ('pending', 'processing') and $1::text is not null";

const FORGET_FANOUT_JOBS: &str = "delete from walferry.fanout_job
    where fanout in (select id from walferry.fanout where slot = $1)";

const FORGET_FANOUTS: &str = "delete from walferry.fanout where slot = $1";

const FORGET_LOAD: &str = "delete from walferry.load where slot = $1";

const FORGET_SOURCE: &str = "delete from walferry.source where slot = $1";

/// Drops the slot and forgets the position; what was done, as text.
///
/// # Errors
///
/// [`RebuildError`]; without `yes` nothing is read.
pub(super) async fn run(mut client: Client, slot: &str, yes: bool) -> Result<String, RebuildError> {
    if !yes {
        return Err(RebuildError::NotConfirmed { slot: slot.to_owned() });
    }
    verify_own(&client, slot).await?;
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    let lease = transaction.query_opt(LEASE, &[&slot]).await.map_err(failed("read the lease"))?;
    if lease.is_some_and(|row| row.get("is_held")) {
        return Err(RebuildError::Running { slot: slot.to_owned() });
    }
    let dropped =
        catalog::slot::remove(&transaction, slot).await.map_err(|source| match source.code() {
            Some(code) if *code == SqlState::OBJECT_IN_USE => {
                RebuildError::Running { slot: slot.to_owned() }
            }
            _ => failed("drop the slot")(source),
        })?;
    for statement in [
        RAISE_EPOCH,
        FORGET_POSITION,
        FORGET_SETTLEMENT,
        FORGET_LOAD,
        FORGET_SOURCE,
        CLOSE_UNFINISHED,
        FORGET_FANOUT_JOBS,
        FORGET_FANOUTS,
    ] {
        transaction.execute(statement, &[&slot]).await.map_err(failed("forget the position"))?;
    }
    transaction.commit().await.map_err(failed("commit"))?;
    let first = if dropped { "dropped slot" } else { "there was no slot" };
    Ok(format!("{first} {slot}; the next `walferry run` loads all rows into new indices"))
}

/// Refuses the slot of another database: a copy of a database has its settings, slot included.
async fn verify_own(client: &Client, slot: &str) -> Result<(), RebuildError> {
    let found = catalog::slot::inspect(client, slot).await.map_err(failed("read the slot"))?;
    let Some(owner) = found.and_then(|slot| slot.database) else { return Ok(()) };
    let current = client.query_one("select current_database()::text as name", &[]).await;
    let current = current.and_then(|row| row.try_get("name"));
    let database: String = current.map_err(failed("read the database's name"))?;
    if owner == database {
        return Ok(());
    }
    Err(RebuildError::OtherDatabase { slot: slot.to_owned(), owner, database })
}

fn failed(what: &'static str) -> impl Fn(tokio_postgres::Error) -> RebuildError {
    move |source| match source.code() {
        Some(code)
            if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME =>
        {
            RebuildError::NotMigrated
        }
        _ => RebuildError::Database { what, source },
    }
}
