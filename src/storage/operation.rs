//! Operations that an operator asks for, a row each: what is to be done, and how far it has come.
//!
//! Not here: doing them (`engine::supervisor::operation`); and progress itself moves only when a
//! chunk settles (`storage::queue::settle`).

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::lease::Lease;
use super::leased_transaction::LeasedTransaction;
use super::sql::{bigint, count};
use super::{QueueError, doing};

const BEGIN: &str = include_str!("operation_begin.sql");
const QUEUE: &str = include_str!("operation_queue.sql");
const LIST: &str = include_str!("operation_list.sql");
const STEER: &str = include_str!("operation_steer.sql");

/// For errors.
const BEGINNING: &str = "begin an operation";

/// What an operator may do to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    Cancel,
    Pause,
    Resume,
}

impl Steer {
    /// The word in the audit log and in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    /// The states to come from, and the new one.
    const fn states(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Cancel => (&["queued", "running", "paused"], "cancelled"),
            Self::Pause => (&["queued", "running"], "paused"),
            Self::Resume => (&["paused"], "queued"),
        }
    }
}

/// A backfill as an operator asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBackfill {
    /// `schema.name`.
    pub table: String,
    /// SQL on the table's columns.
    pub condition: Option<String>,
    /// A JSON array of keys, each an array of texts.
    pub keys: Option<String>,
    /// Rows in a second.
    pub rate_max: Option<u32>,
    /// Rows that there are.
    pub row_estimate: u64,
}

/// A backfill that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunBackfill {
    pub id: i64,
    /// `schema.name`.
    pub table: String,
    pub condition: Option<String>,
    pub keys: Option<Vec<Vec<String>>>,
    pub rate_max: Option<u32>,
    /// The last key of which all is settled.
    pub last_key: Option<Vec<String>>,
    /// Rows settled.
    pub row_count: u64,
}

/// An operation as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationRow {
    pub id: i64,
    pub kind: String,
    pub table: String,
    pub condition: Option<String>,
    pub key_count: Option<u64>,
    pub rate_max: Option<i32>,
    pub state: String,
    pub requested_by: String,
    pub waits_for: Option<String>,
    pub row_estimate: u64,
    pub row_count: u64,
    pub refused_count: u64,
    pub error: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
}

impl OperationRow {
    /// Whether it has ended, in one way or another.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "cancelled")
    }
}

/// Begins the next operation of the slot, or goes on with the one that an earlier run has begun.
///
/// # Errors
/// [`QueueError::LeaseLost`], [`QueueError::Database`].
pub async fn begin(client: &Client, lease: &Lease) -> Result<Option<BegunBackfill>, QueueError> {
    let begin = async { client.query_opt(BEGIN, &[&lease.slot]).await.map_err(doing(BEGINNING)) };
    let row = LeasedTransaction::prepare(client, lease).await?.run(client, begin).await?;
    row.map(|row| begun(&row).map_err(doing(BEGINNING))).transpose()
}

fn begun(row: &Row) -> Result<BegunBackfill, tokio_postgres::Error> {
    // Both were written by walferry, so they read.
    let keys: Option<String> = row.try_get("keys")?;
    let last_key: Option<String> = row.try_get("last_key")?;
    Ok(BegunBackfill {
        id: row.try_get("id")?,
        table: row.try_get("table_name")?,
        condition: row.try_get("condition")?,
        keys: keys.and_then(|keys| serde_json::from_str(&keys).ok()),
        rate_max: row.try_get::<_, Option<i32>>("rate_max")?.and_then(|n| u32::try_from(n).ok()),
        last_key: last_key.and_then(|key| serde_json::from_str(&key).ok()),
        row_count: count(row.try_get("row_count")?),
    })
}

/// Whether there is an operation to begin or to go on with.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn is_any_open(client: &Client, slot: &str) -> Result<bool, QueueError> {
    const ANY_OPEN: &str = "select exists (select from walferry.operation
        where slot = $1 and state in ('queued', 'running')) as is_any";
    let row = client.query_one(ANY_OPEN, &[&slot]).await;
    row.and_then(|row| row.try_get("is_any")).map_err(doing("read operations"))
}

/// Whether the operation goes on: nobody has cancelled or paused it, and it has not ended.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn is_running(client: &Client, id: i64) -> Result<bool, QueueError> {
    const RUNNING: &str = "select exists (select from walferry.operation
        where id = $1 and state = 'running') as is_running";
    let row = client.query_one(RUNNING, &[&id]).await;
    row.and_then(|row| row.try_get("is_running")).map_err(doing("read operations"))
}

/// Ends the operation with an error.
///
/// # Errors
/// [`QueueError::LeaseLost`], [`QueueError::Database`].
pub async fn fail(client: &Client, lease: &Lease, id: i64, error: &str) -> Result<(), QueueError> {
    const FAIL: &str = "update walferry.operation
        set state = 'failed', error = $2, waits_for = null, ended_at = clock_timestamp()
        where id = $1 and state = 'running'";
    let doing = doing("end an operation");
    let fail = async { client.execute(FAIL, &[&id, &error]).await.map_err(doing) };
    LeasedTransaction::prepare(client, lease).await?.run(client, fail).await.map(drop)
}

/// Notes what the operation waits for. The next chunk that settles forgets it.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn note_wait(client: &Client, id: i64, waits_for: &str) -> Result<(), QueueError> {
    const NOTE: &str =
        "update walferry.operation set waits_for = $2 where id = $1 and state = 'running'";
    let noted = client.execute(NOTE, &[&id, &waits_for]).await;
    noted.map(drop).map_err(doing("note what an operation waits for"))
}

/// Queues a backfill for the slot's running process; returns its number.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn queue(
    client: &Client,
    slot: &str,
    new: &NewBackfill,
    requested_by: &str,
) -> Result<i64, QueueError> {
    let rate_max = new.rate_max.map(|rate| i32::try_from(rate).unwrap_or(i32::MAX));
    let estimate = bigint(new.row_estimate);
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&slot, &new.table, &new.condition, &new.keys, &rate_max, &requested_by, &estimate];
    let row = client.query_one(QUEUE, &parameters).await;
    row.and_then(|row| row.try_get("id")).map_err(doing("queue an operation"))
}

/// Operations of the slot, the newest first, or the one with this number.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn list(
    client: &Client,
    slot: &str,
    id: Option<i64>,
    limit: u32,
) -> Result<Vec<OperationRow>, QueueError> {
    let doing = doing("read operations");
    let rows = client.query(LIST, &[&slot, &id, &i64::from(limit)]).await.map_err(&doing)?;
    rows.iter().map(|row| read(row).map_err(&doing)).collect()
}

fn read(row: &Row) -> Result<OperationRow, tokio_postgres::Error> {
    Ok(OperationRow {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        table: row.try_get("table_name")?,
        condition: row.try_get("condition")?,
        key_count: row.try_get::<_, Option<i64>>("key_count")?.map(count),
        rate_max: row.try_get("rate_max")?,
        state: row.try_get("state")?,
        requested_by: row.try_get("requested_by")?,
        waits_for: row.try_get("waits_for")?,
        row_estimate: count(row.try_get("row_estimate")?),
        row_count: count(row.try_get("row_count")?),
        refused_count: count(row.try_get("refused_count")?),
        error: row.try_get("error")?,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
    })
}

/// Cancels, pauses or resumes an operation; false where its state does not allow that.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn steer(client: &Client, slot: &str, id: i64, steer: Steer) -> Result<bool, QueueError> {
    let (from, to) = steer.states();
    let moved = client.execute(STEER, &[&slot, &id, &from, &to]).await;
    Ok(moved.map_err(doing("steer an operation"))? > 0)
}
