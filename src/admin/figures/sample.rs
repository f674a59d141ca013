//! The queue and its slot as they are now: for statistics, health, metrics and `walferry status`.
//!
//! A sample takes a few milliseconds for any number of jobs: counts are kept, not counted, and the
//! rest is found by indexes.
//!
//! Not here: the verdict on the figures (`health`).

use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Row};

use crate::change::Lsn;
use crate::postgres::catalog;
use crate::storage::operation::{self, OperationFigures, OperationRow};
use crate::storage::queue::awaited::{self, AwaitedIndex};
use crate::storage::sql::{bigint, count, lsn};
use crate::storage::{QueueError, doing};
use crate::telemetry::metrics::queue::QueueStatistics;

/// The figures of the queue and its slot at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub counts: Counts,
    pub oldest: Oldest,
    /// When the oldest job was committed that is unfinished and not waiting for its next attempt.
    pub oldest_unfinished: Option<Moment>,
    /// False while an operator's `stop` holds.
    pub indexing: bool,
    /// When that was chosen, if ever; ISO 8601.
    pub chosen_at: Option<String>,
    /// Below this everything is settled; moves with progress.
    pub settled: Lsn,
    /// The newest job's number.
    pub newest_id: i64,
    /// Jobs that ended within the last two seconds, at most [`ENDED_MAX`] of them.
    pub ended_ids: Vec<i64>,
    pub slot: SlotState,
    /// The indices that jobs wait for.
    pub awaited: Vec<AwaitedIndex>,
    /// The newest operations beside the stream.
    pub operations: Vec<OperationRow>,
    /// All of them, counted.
    pub operation_figures: OperationFigures,
    /// The transaction that walferry waits for, if it has waited for longer than 5 s.
    pub lock_wait: Option<LockWait>,
}

/// A transaction that holds what walferry waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct LockWait {
    pub pid: i32,
    pub application: String,
    pub seconds: f64,
}

/// The limit of [`Sample::ended_ids`].
pub const ENDED_MAX: usize = 100;

/// The limit of [`Sample::operations`].
pub const OPERATIONS_MAX: u32 = 20;

/// The result of `get_elasticsearch_queue_stats()`, and the number of stuck jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    pub total: i64,
    pub pending: i64,
    pub processing: i64,
    pub completed: i64,
    pub failed: i64,
    /// `processing` for longer than 30 s. Only the oldest 10,000 are counted, to bound the time of
    /// the query.
    pub stuck: i64,
    /// Milliseconds from a change's commit to its job's end.
    pub processing_time_ms: f64,
    /// ISO 8601, UTC.
    pub last_processed_at: Option<String>,
}

/// Age in seconds of the oldest job of each; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Oldest {
    pub pending: f64,
    pub processing: f64,
    pub failed: f64,
}

/// A moment and how long ago it was, by the database's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// ISO 8601, UTC.
    pub at: String,
    pub age_seconds: f64,
}

/// The slot, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    Known(SlotFigures),
    /// There is no such slot.
    Missing,
    /// walferry's role may not read slots.
    Refused,
}

impl Sample {
    /// Its figures for the metrics.
    #[must_use]
    pub fn figures(&self) -> QueueStatistics {
        let counts = &self.counts;
        QueueStatistics {
            pending: count(counts.pending),
            processing: count(counts.processing),
            completed: count(counts.completed),
            failed: count(counts.failed),
            stuck: count(counts.stuck),
            mean_processing_seconds: counts.processing_time_ms / 1000.0,
            oldest_pending: self.oldest.pending,
            oldest_processing: self.oldest.processing,
            oldest_failed: self.oldest.failed,
        }
    }
}

impl SlotState {
    /// Its figures, if they are known.
    #[must_use]
    pub fn known(&self) -> Option<&SlotFigures> {
        match self {
            Self::Known(slot) => Some(slot),
            Self::Missing | Self::Refused => None,
        }
    }
}

/// The replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFigures {
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL that the slot keeps from removal.
    pub retained_bytes: i64,
    /// WAL between the server's end and what is acknowledged.
    pub lag_bytes: i64,
    /// WAL that can still be written before the slot may be lost; `None` where that is unlimited.
    pub safe_bytes: Option<i64>,
}

const COUNTS: &str = include_str!("counts.sql");

const SAMPLE: &str = include_str!("sample.sql");

const LOCK_WAIT: &str = include_str!("lock_wait.sql");

const SPILLED: &str = "select s.spill_bytes, s.spill_txns
    from pg_catalog.pg_stat_replication_slots s where s.slot_name = $1";

/// Bytes and transactions that PostgreSQL spilled while decoding for a slot; `None` before it has
/// decoded anything. PostgreSQL 14 may take seconds for it, so no request waits for it.
///
/// # Errors
/// What the query returns.
pub async fn spilled(
    client: &Client,
    slot: &str,
) -> Result<Option<(u64, u64)>, tokio_postgres::Error> {
    let Some(row) = client.query_opt(SPILLED, &[&slot]).await? else { return Ok(None) };
    Ok(Some((count(row.try_get("spill_bytes")?), count(row.try_get("spill_txns")?))))
}

/// Reads the figures as they are now.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn read(client: &Client, slot: &str) -> Result<Sample, QueueError> {
    let counts = counts(client).await?;
    let reading = "read how the queue is";
    let row = client.query_one(SAMPLE, &[&slot]).await.map_err(doing(reading))?;
    let state = slot_state(client, slot).await?;
    let wait = client.query_opt(LOCK_WAIT, &[&slot]).await.map_err(doing(reading))?;
    let wait = wait.as_ref().map(lock_wait).transpose().map_err(doing(reading))?;
    let sample = rest_of(&row, counts, state).map_err(doing(reading))?;
    let awaited = awaited::count(client).await?;
    let operations = operation::list(client, slot, None, OPERATIONS_MAX).await?;
    let operation_figures = operation::figures(client, slot).await?;
    Ok(Sample { awaited, operations, operation_figures, lock_wait: wait, ..sample })
}

/// A role that may not read slots costs these figures and nothing else.
async fn slot_state(client: &Client, slot: &str) -> Result<SlotState, QueueError> {
    match catalog::slot::inspect(client, slot).await {
        Ok(Some(found)) => Ok(SlotState::Known(SlotFigures {
            active: found.is_active,
            wal_status: found.wal_status,
            retained_bytes: bigint(found.retained_bytes),
            lag_bytes: bigint(found.unconfirmed_bytes),
            safe_bytes: found.safe_wal_size,
        })),
        Ok(None) => Ok(SlotState::Missing),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Ok(SlotState::Refused)
        }
        Err(error) => Err(doing("read how the slot is")(error)),
    }
}

/// The statistics alone.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn counts(client: &Client) -> Result<Counts, QueueError> {
    let reading = "read the statistics";
    let row = client.query_one(COUNTS, &[]).await.map_err(doing(reading))?;
    counts_of(&row).map_err(doing(reading))
}

fn counts_of(row: &Row) -> Result<Counts, tokio_postgres::Error> {
    Ok(Counts {
        total: row.try_get("total_jobs")?,
        pending: row.try_get("pending_jobs")?,
        processing: row.try_get("processing_jobs")?,
        completed: row.try_get("completed_jobs")?,
        failed: row.try_get("failed_jobs")?,
        stuck: row.try_get("stuck_jobs")?,
        processing_time_ms: row.try_get::<_, Option<f64>>("avg_processing_time")?.unwrap_or(0.0),
        last_processed_at: row.try_get("last_processed_at")?,
    })
}

fn lock_wait(row: &Row) -> Result<LockWait, tokio_postgres::Error> {
    Ok(LockWait {
        pid: row.try_get("pid")?,
        application: row.try_get::<_, Option<String>>("application")?.unwrap_or_default(),
        seconds: row.try_get("seconds")?,
    })
}

fn rest_of(row: &Row, counts: Counts, slot: SlotState) -> Result<Sample, tokio_postgres::Error> {
    let unfinished_since: Option<String> = row.try_get("unfinished_since")?;
    let unfinished_age: Option<f64> = row.try_get("unfinished_age")?;
    let age = |column: &str| -> Result<f64, tokio_postgres::Error> {
        Ok(row.try_get::<_, Option<f64>>(column)?.unwrap_or(0.0).max(0.0))
    };
    Ok(Sample {
        counts,
        oldest: Oldest {
            pending: age("pending_age")?,
            processing: age("processing_age")?,
            failed: age("failed_age")?,
        },
        oldest_unfinished: unfinished_since
            .zip(unfinished_age)
            .map(|(at, age_seconds)| Moment { at, age_seconds }),
        indexing: row.try_get("indexing")?,
        chosen_at: row.try_get("chosen_at")?,
        settled: lsn(row.try_get::<_, PgLsn>("settled_lsn")?),
        newest_id: row.try_get("newest_id")?,
        ended_ids: row.try_get("ended_ids")?,
        slot,
        awaited: Vec::new(),
        operations: Vec::new(),
        operation_figures: OperationFigures::default(),
        lock_wait: None,
    })
}
