//! Stuck jobs: `processing` although no request works on them.
//!
//! The rules and messages are the original system's: `processing` for longer than 30 s (which
//! includes its third rule, longer than 10 minutes), or with two attempts behind it. What differs
//! is that a job in flight is never stuck, and that a row moves only if it is still as it was when
//! it was read. A job that is rescued by mistake does no harm: it goes back into the one feed.
//!
//! Not here: when a pass is made (`engine::supervisor::rescue`), and claiming what it has reset
//! (`claim`).

use std::time::Duration;

use postgres_types::{PgLsn, ToSql};
use tokio_postgres::{Client, Row};

use super::claim::reset_orphans;
use super::retry::RetryPolicy;
use super::settle::SESSION;
use crate::ack::in_flight::{InFlight, InFlightSnapshot};
use crate::change::Micros;
use crate::storage::lease::Lease;
use crate::storage::leased_transaction::LeasedTransaction;
use crate::storage::sql::{count, position};
use crate::storage::{QueueError, doing};

/// `processing` for longer than this is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Attempts from which on a job is stuck at once.
const ATTEMPTS_STUCK: i32 = 2;

/// Jobs moved in one pass; the next pass has the rest.
const JOBS_MAX: i64 = 10_000;

const CANDIDATES: &str = include_str!("rescue_candidates.sql");

const MOVE: &str = include_str!("rescue_move.sql");

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Jobs that are `pending` again.
    pub reset: u64,
    /// Jobs that had no attempt left: `failed`.
    pub failed: u64,
}

impl Rescued {
    /// All that moved.
    #[must_use]
    pub fn total(self) -> u64 {
        self.reset + self.failed
    }
}

/// Finds and moves stuck jobs, on a connection of its own.
#[derive(Debug)]
pub struct Rescuer {
    client: Client,
    guard: LeasedTransaction,
    attempts_max: i32,
}

impl Rescuer {
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn new(
        client: Client,
        lease: &Lease,
        policy: RetryPolicy,
    ) -> Result<Self, QueueError> {
        client.batch_execute(SESSION).await.map_err(doing("prepare the rescue"))?;
        let guard = LeasedTransaction::prepare(&client, lease).await?;
        Ok(Self { client, guard, attempts_max: policy.attempts() })
    }

    /// Makes `pending` again what earlier runs left `processing` with a row that was locked when this
    /// run began. Returns how many.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn reset_orphans(&mut self) -> Result<u64, QueueError> {
        let epoch = self.guard.lease().epoch;
        self.guard.run(&self.client, reset_orphans(&self.client, epoch)).await
    }

    /// Moves every stuck job that is not in flight.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`]; then nothing has moved.
    pub async fn pass(&mut self, in_flight: &InFlight) -> Result<Rescued, QueueError> {
        let stuck_after = STUCK_AFTER.as_secs_f64();
        let parameters: [&(dyn ToSql + Sync); 3] = [&stuck_after, &ATTEMPTS_STUCK, &JOBS_MAX];
        let found = self.client.query(CANDIDATES, &parameters).await;
        let found = found.map_err(doing("look for stuck jobs"))?;
        // After the query: a job that was taken up before it is in this snapshot.
        let in_flight = in_flight.now();
        let mut stuck = Stuck::default();
        for row in &found {
            stuck.add(row, &in_flight).map_err(doing("look for stuck jobs"))?;
        }
        if stuck.ids.is_empty() {
            return Ok(Rescued::default());
        }
        self.guard.run(&self.client, self.move_all(&stuck)).await
    }

    async fn move_all(&self, stuck: &Stuck) -> Result<Rescued, QueueError> {
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&stuck.ids, &stuck.created, &stuck.started, &self.attempts_max];
        let row = self.client.query_one(MOVE, &parameters).await;
        let row = row.map_err(doing("move stuck jobs"))?;
        let moved =
            |status: &str| row.try_get(status).map(count).map_err(doing("count stuck jobs"));
        Ok(Rescued { reset: moved("reset")?, failed: moved("failed")? })
    }
}

/// Stuck jobs as they were read, in the columns that [`MOVE`] takes.
#[derive(Default)]
struct Stuck {
    ids: Vec<i64>,
    created: Vec<Micros>,
    started: Vec<Option<Micros>>,
}

impl Stuck {
    /// Adds a row of [`CANDIDATES`] unless its job is in flight.
    fn add(
        &mut self,
        row: &Row,
        in_flight: &InFlightSnapshot,
    ) -> Result<(), tokio_postgres::Error> {
        let id = row.try_get("id")?;
        let lsn: Option<PgLsn> = row.try_get("commit_lsn")?;
        let ordinal: Option<i64> = row.try_get("ordinal")?;
        if !in_flight.holds(id, lsn.map(|lsn| position(lsn, ordinal.unwrap_or_default()))) {
            self.ids.push(id);
            self.created.push(row.try_get("created_at")?);
            self.started.push(row.try_get("started_at")?);
        }
        Ok(())
    }
}
