//! The right to run: one epoch per slot at a time, on the database's clock.
//!
//! A lease is free when it has expired or when the session that took it is gone. The successor
//! ends what is left of its predecessor's sessions before it raises the epoch, so nothing of the
//! old epoch is in flight in this database when the new one begins.
//!
//! Not here: locking the lease in each transaction (`leased_transaction`), and the write aliases that keep an
//! old epoch out of Elasticsearch.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use super::{QueueError, doing};
use crate::postgres::{Disposition, Recovery, catalog};
use crate::value;

/// How long a lease lasts unless renewed.
pub const TERM: Duration = Duration::from_secs(4);

/// How often the holder should call [`renew`].
pub const RENEWAL_PERIOD: Duration = Duration::from_secs(1);

/// How long [`acquire`] waits for its predecessor's sessions to end.
const TERMINATION_WAIT_MAX: Duration = Duration::from_secs(10);

const TERMINATION_POLL: Duration = Duration::from_millis(20);

/// The right to write under one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub slot: String,
    pub epoch: i64,
}

impl Lease {
    /// The `application_name` of a session of this epoch: `walferry/<slot>/<epoch>/<purpose>`.
    #[must_use]
    pub fn application_name(&self, purpose: &str) -> String {
        format!("{}{purpose}", session_prefix(&self.slot, self.epoch))
    }

    /// The error of a transaction that found another epoch.
    pub(super) fn lost(&self) -> QueueError {
        QueueError::LeaseLost { slot: self.slot.clone(), epoch: self.epoch }
    }
}

/// The lease was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// A standby waits and tries again.
    #[error("slot {slot} is held by {by} for another {remaining:?}")]
    Held { slot: String, by: String, remaining: Duration },
    #[error(
        "sessions of the previous holder of slot {slot} do not end (process ids {pids:?}); \
         end them with pg_terminate_backend, or run as the role that owns them"
    )]
    PredecessorStays { slot: String, pids: Vec<i32> },
    /// A session that another role owns streams from the slot. It may end at any time.
    #[error(
        "the session that reads slot {slot} belongs to another role, which this role may not end; \
         end it with pg_terminate_backend as a superuser"
    )]
    NotPermitted {
        slot: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Recovery for AcquireError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Held { .. } | Self::PredecessorStays { .. } | Self::NotPermitted { .. } => {
                Disposition::Retry
            }
            Self::Queue(error) => error.disposition(),
        }
    }
}

/// What all sessions of one epoch begin with. PostgreSQL cuts an `application_name` at 63 bytes,
/// so a long slot name is shortened to its beginning and a hash.
fn session_prefix(slot: &str, epoch: i64) -> String {
    const SLOT_BYTES_MAX: usize = 24;
    if slot.len() <= SLOT_BYTES_MAX {
        return format!("walferry/{slot}/{epoch}/");
    }
    let head: String = slot.chars().take(15).filter(char::is_ascii).collect();
    let hash = value::hex(&Sha256::digest(slot.as_bytes())[..4]);
    format!("walferry/{head}-{hash}/{epoch}/")
}

const CREATE: &str = "insert into walferry.lease (slot) values ($1) on conflict (slot) do nothing";

const STATE: &str = "select epoch, holder, remaining_ms, is_held
    from walferry.lease_state where slot = $1";

/// Waits for every transaction that was begun under a lease (`leased_transaction`), and for other
/// contenders.
const BEGIN_RAISE: &str = "begin isolation level read committed;
    lock table walferry.lease in exclusive mode";

const TERMINATE_SESSIONS: &str = include_str!("lease_terminate.sql");

const RAISE: &str = include_str!("lease_raise.sql");

const RENEW: &str = "update walferry.lease
    set expires_at = clock_timestamp() + make_interval(secs => $3)
    where slot = $1 and epoch = $2";

const RELEASE: &str = "update walferry.lease set expires_at = clock_timestamp()
    where slot = $1 and epoch = $2";

struct State {
    epoch: i64,
    holder: String,
    remaining: Duration,
    held: bool,
}

/// Takes the lease of `slot` for `holder` (a name for people: host and process id). The lease
/// stands as long as `client`'s session lives and is renewed: keep that client for renewals.
///
/// # Errors
/// [`AcquireError::Held`] while another instance has it.
pub async fn acquire(client: &Client, slot: &str, holder: &str) -> Result<Lease, AcquireError> {
    client.execute(CREATE, &[&slot]).await.map_err(doing("create the lease"))?;
    let before = state(client, STATE, slot).await?;
    if before.held {
        return Err(held(slot, before));
    }
    // First those that may hold the lease's lock, or the next statement would wait for them. A
    // name carries the old epoch, so sessions of other instances are not terminated. Any login can
    // choose any name, so only sessions of this role in this database count.
    let prefix = session_prefix(slot, before.epoch);
    terminate(slot, async || {
        let rows = client.query(TERMINATE_SESSIONS, &[&prefix]).await?;
        rows.iter().map(|row| row.try_get("pid")).collect()
    })
    .await?;

    client.batch_execute(BEGIN_RAISE).await.map_err(doing("lock the lease"))?;
    match raise(client, slot, holder, before.epoch).await {
        Ok(lease) => {
            client.batch_execute("commit").await.map_err(doing("commit the lease"))?;
            Ok(lease)
        }
        Err(error) => {
            drop(client.batch_execute("rollback").await);
            Err(error)
        }
    }
}

/// Between `begin` and `commit`: reads the state again under the lock, so that of two contenders one
/// sees the other's epoch.
async fn raise(
    client: &Client,
    slot: &str,
    holder: &str,
    epoch: i64,
) -> Result<Lease, AcquireError> {
    let now = state(client, STATE, slot).await?;
    if now.held || now.epoch != epoch {
        return Err(held(slot, now));
    }
    // Only under the lock: a contender's walsender must not be taken for the predecessor's.
    terminate(slot, async || {
        let reader = catalog::slot::terminate_reader(client, slot).await?;
        Ok(Vec::from_iter(reader))
    })
    .await?;
    let row = client
        .query_one(RAISE, &[&slot, &holder, &TERM.as_secs_f64()])
        .await
        .map_err(doing("raise the epoch"))?;
    let epoch = row.try_get("epoch").map_err(doing("raise the epoch"))?;
    Ok(Lease { slot: slot.to_owned(), epoch })
}

/// Prolongs the lease by [`TERM`].
///
/// # Errors
/// [`QueueError::LeaseLost`] where another epoch has begun.
pub async fn renew(client: &Client, lease: &Lease) -> Result<(), QueueError> {
    let renewed = client
        .execute(RENEW, &[&lease.slot, &lease.epoch, &TERM.as_secs_f64()])
        .await
        .map_err(doing("renew the lease"))?;
    if renewed == 0 { Err(lease.lost()) } else { Ok(()) }
}

/// Gives the lease back on a clean stop, when nothing of this run is in flight any more. A lease
/// already lost stays lost.
///
/// # Errors
/// [`QueueError::Database`] where the connection is gone; then the lease expires by itself.
pub async fn release(client: &Client, lease: &Lease) -> Result<(), QueueError> {
    client
        .execute(RELEASE, &[&lease.slot, &lease.epoch])
        .await
        .map(drop)
        .map_err(doing("release the lease"))
}

fn held(slot: &str, state: State) -> AcquireError {
    AcquireError::Held { slot: slot.to_owned(), by: state.holder, remaining: state.remaining }
}

async fn state(client: &Client, query: &str, slot: &str) -> Result<State, AcquireError> {
    let read = |row: Row| -> Result<State, tokio_postgres::Error> {
        let remaining: Option<f64> = row.try_get("remaining_ms")?;
        Ok(State {
            epoch: row.try_get("epoch")?,
            holder: row.try_get("holder")?,
            remaining: Duration::from_secs_f64(remaining.unwrap_or(0.0).clamp(0.0, 1e9) / 1e3),
            held: row.try_get("is_held")?,
        })
    };
    let row = client.query_one(query, &[&slot]).await.map_err(doing("read the lease"))?;
    Ok(read(row).map_err(doing("read the lease"))?)
}

/// Calls `end` until it names no more process ids of the sessions that it ends.
async fn terminate(
    slot: &str,
    mut end: impl AsyncFnMut() -> Result<Vec<i32>, tokio_postgres::Error>,
) -> Result<(), AcquireError> {
    let deadline = Instant::now() + TERMINATION_WAIT_MAX;
    loop {
        let pids = end().await.map_err(|source| match source.code() {
            Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
                AcquireError::NotPermitted { slot: slot.to_owned(), source }
            }
            _ => doing("end the previous holder's sessions")(source).into(),
        })?;
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(AcquireError::PredecessorStays { slot: slot.to_owned(), pids });
        }
        sleep(TERMINATION_POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_name_fits_and_tells_epochs_apart() {
        let name =
            |slot: &str, epoch| Lease { slot: slot.to_owned(), epoch }.application_name("recorder");
        assert_eq!(name("walferry", 7), "walferry/walferry/7/recorder");
        let long = "s".repeat(63);
        assert!(name(&long, i64::MAX).len() <= 63, "{}", name(&long, i64::MAX));
        assert_ne!(name(&long, 1), name(&long, 2));
        assert_ne!(name(&format!("{long}a"), 1), name(&format!("{long}b"), 1));
        assert!(!name("walferry", 70).starts_with(&session_prefix("walferry", 7)));
    }
}
