//! Operations that an operator asks for, a row each: what is to be done, and how far it has come.
//!
//! Not here: doing them (`engine::supervisor::operation`); and progress itself moves only when a
//! chunk settles (`storage::queue::settle`).

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::lease::Lease;
use super::leased_transaction::LeasedTransaction;
use super::sql::{bigint, count};
use super::verification::{DifferenceCounts, DocumentDifference, VerifyProgress};
use super::{QueueError, doing};

const BEGIN: &str = include_str!("operation_begin.sql");
const QUEUE: &str = include_str!("operation_queue.sql");
const LIST: &str = include_str!("operation_list.sql");
const FIGURES: &str = include_str!("operation_figures.sql");
const STEER: &str = include_str!("operation_steer.sql");

/// For errors.
const BEGINNING: &str = "begin an operation";

/// The states of an operation.
pub const STATES: [&str; 6] = ["queued", "running", "paused", "completed", "failed", "cancelled"];

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

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Renders documents anew.
    Backfill,
    /// Compares documents with their rows.
    Verify,
}

impl OperationKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Backfill, Self::Verify];

    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backfill => "backfill",
            Self::Verify => "verify",
        }
    }
}

/// An operation as an operator asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOperation {
    pub kind: OperationKind,
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
    /// Only documents of this index.
    pub index: Option<String>,
    /// What differs is rendered anew.
    pub is_repair: bool,
}

/// An operation that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunOperation {
    pub id: i64,
    pub kind: OperationKind,
    /// `schema.name`.
    pub table: String,
    pub condition: Option<String>,
    pub keys: Option<Vec<Vec<String>>>,
    pub rate_max: Option<u32>,
    pub index: Option<String>,
    pub is_repair: bool,
    /// Of a backfill: the last key of which all is settled, and the rows settled.
    pub progress: VerifyProgress,
}

/// An operation as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationRow {
    pub id: i64,
    pub kind: String,
    pub table: String,
    pub index: Option<String>,
    pub is_repair: bool,
    pub condition: Option<String>,
    pub key_count: Option<u64>,
    pub rate_max: Option<i32>,
    pub state: String,
    pub requested_by: String,
    pub waits_for: Option<String>,
    pub row_estimate: u64,
    pub row_count: u64,
    pub refused_count: u64,
    /// Of a verification: documents compared, and how many of them differ.
    pub document_count: u64,
    pub counts: DifferenceCounts,
    /// Of one operation only.
    pub findings: Option<Vec<DocumentDifference>>,
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
pub async fn begin(client: &Client, lease: &Lease) -> Result<Option<BegunOperation>, QueueError> {
    let begin = async { client.query_opt(BEGIN, &[&lease.slot]).await.map_err(doing(BEGINNING)) };
    let row = LeasedTransaction::prepare(client, lease).await?.run(client, begin).await?;
    row.map(|row| begun(&row).map_err(doing(BEGINNING))).transpose()
}

fn begun(row: &Row) -> Result<BegunOperation, tokio_postgres::Error> {
    // They were written by walferry, so they read.
    let keys: Option<String> = row.try_get("keys")?;
    let kind: String = row.try_get("kind")?;
    let is_verify = kind == OperationKind::Verify.as_str();
    Ok(BegunOperation {
        id: row.try_get("id")?,
        kind: if is_verify { OperationKind::Verify } else { OperationKind::Backfill },
        table: row.try_get("table_name")?,
        condition: row.try_get("condition")?,
        keys: keys.and_then(|keys| serde_json::from_str(&keys).ok()),
        rate_max: row.try_get::<_, Option<i32>>("rate_max")?.and_then(|n| u32::try_from(n).ok()),
        index: row.try_get("index_name")?,
        is_repair: row.try_get("is_repair")?,
        progress: VerifyProgress::read(row)?,
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

/// Queues operations for the slot's running process, all of them or none; returns their numbers.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn queue(
    client: &Client,
    slot: &str,
    all: &[NewOperation],
    requested_by: &str,
) -> Result<Vec<i64>, QueueError> {
    let tables: Vec<&str> = all.iter().map(|new| new.table.as_str()).collect();
    let conditions: Vec<Option<&str>> = all.iter().map(|new| new.condition.as_deref()).collect();
    let keys: Vec<Option<&str>> = all.iter().map(|new| new.keys.as_deref()).collect();
    let rates: Vec<Option<i32>> = all.iter().map(|new| new.rate_max.map(integer)).collect();
    let estimates: Vec<i64> = all.iter().map(|new| bigint(new.row_estimate)).collect();
    let kinds: Vec<&str> = all.iter().map(|new| new.kind.as_str()).collect();
    let indices: Vec<Option<&str>> = all.iter().map(|new| new.index.as_deref()).collect();
    let repairs: Vec<bool> = all.iter().map(|new| new.is_repair).collect();
    let parameters: [&(dyn ToSql + Sync); 10] = [
        &slot,
        &tables,
        &conditions,
        &keys,
        &rates,
        &requested_by,
        &estimates,
        &kinds,
        &indices,
        &repairs,
    ];
    let rows = client.query(QUEUE, &parameters).await;
    let ids = rows.and_then(|rows| rows.iter().map(|row| row.try_get("id")).collect());
    ids.map_err(doing("queue an operation"))
}

fn integer(rate: u32) -> i32 {
    i32::try_from(rate).unwrap_or(i32::MAX)
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
    let findings: Option<String> = row.try_get("findings")?;
    Ok(OperationRow {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        table: row.try_get("table_name")?,
        index: row.try_get("index_name")?,
        is_repair: row.try_get("is_repair")?,
        condition: row.try_get("condition")?,
        key_count: row.try_get::<_, Option<i64>>("key_count")?.map(count),
        rate_max: row.try_get("rate_max")?,
        state: row.try_get("state")?,
        requested_by: row.try_get("requested_by")?,
        waits_for: row.try_get("waits_for")?,
        row_estimate: count(row.try_get("row_estimate")?),
        row_count: count(row.try_get("row_count")?),
        refused_count: count(row.try_get("refused_count")?),
        document_count: count(row.try_get("document_count")?),
        counts: DifferenceCounts::read(row)?,
        findings: findings.and_then(|findings| serde_json::from_str(&findings).ok()),
        error: row.try_get("error")?,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        ended_at: row.try_get("ended_at")?,
    })
}

/// Operations in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationFigures {
    /// By kind and state.
    pub counts: BTreeMap<(String, String), u64>,
    /// Documents that the newest whole verification of each table has found, without the repaired.
    pub differences: u64,
}

/// How many operations there are, and what they have found.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn figures(client: &Client, slot: &str) -> Result<OperationFigures, QueueError> {
    let reading = doing("count operations");
    let rows = client.query(FIGURES, &[&slot]).await.map_err(&reading)?;
    let mut figures = OperationFigures::default();
    for row in rows {
        let kind = row.try_get("kind").map_err(&reading)?;
        let state = row.try_get("state").map_err(&reading)?;
        let number = count(row.try_get("operations").map_err(&reading)?);
        figures.counts.insert((kind, state), number);
        figures.differences += count(row.try_get("differences").map_err(&reading)?);
    }
    Ok(figures)
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
