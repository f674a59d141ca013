//! `walferry backfill`, `verify`, `operations`, `cancel`, `pause` and `resume`.
//!
//! An operation is queued and then followed through the table, so that it goes on when the command
//! ends. On a terminal its progress is one line that is written over; elsewhere, lines of JSON.
//!
//! Not here: asking for operations (`admin::operation`).

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::output::{columns, say};
use crate::admin::audited::Operator;
use crate::admin::operation::view::as_json;
use crate::admin::operation::{
    self, BackfillRequest, OperationError, QueuedOperations, VerifyRequest,
};
use crate::engine::document::definition::Definition;
use crate::storage::QueueError;
use crate::storage::operation::{OperationRow, Steer, list};
use crate::storage::verification::DifferenceCounts;

/// Between two looks at an operation.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two lines of progress, where they are not written over.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// An operation did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("could not read the keys in {file}; name a file of UTF-8 with one key in each line")]
    Keys {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("operation {id} failed: {error}")]
    Failed { id: i64, error: String },
    #[error("operation {id} was cancelled")]
    Cancelled { id: i64 },
    #[error(
        "Elasticsearch refused the documents of {refused} rows in operation {id}; `walferry jobs \
         --status failed` has the reasons"
    )]
    Refused { id: i64, refused: u64 },
    #[error(
        "{found} documents differ from their rows: {missing} missing, {stale} stale, {orphaned} \
         orphaned; {repaired} of them are repaired"
    )]
    Differences { found: u64, missing: u64, stale: u64, orphaned: u64, repaired: u64 },
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("could not write to standard output")]
    Output(#[from] io::Error),
}

/// The arguments of `walferry backfill`.
pub(super) struct BackfillArguments {
    pub(super) table: Option<String>,
    pub(super) condition: Option<String>,
    pub(super) keys: Option<PathBuf>,
    pub(super) rate_max: Option<u32>,
    pub(super) detach: bool,
    pub(super) json: bool,
}

/// Queues a backfill, and follows it to its end.
pub(super) async fn backfill(
    operator: &Operator,
    definition: &Definition,
    slot: &str,
    arguments: BackfillArguments,
) -> Result<(), FollowError> {
    let BackfillArguments { table, condition, keys, rate_max, detach, json } = arguments;
    let keys = keys.as_deref().map(read_keys).transpose()?;
    let request = BackfillRequest { table, condition, keys, rate_max };
    let QueuedOperations(ids) = operation::backfill(operator, definition, slot, request).await?;
    for ended in follow_all(operator.client(), slot, ids, FollowMode { detach, json }).await? {
        judge(&ended)?;
    }
    Ok(())
}

/// The arguments of `walferry verify`.
pub(super) struct VerifyArguments {
    pub(super) request: VerifyRequest,
    pub(super) detach: bool,
    pub(super) json: bool,
}

/// Queues a verification, follows it to its end, and prints what differs.
pub(super) async fn verify(
    operator: &Operator,
    definition: &Definition,
    slot: &str,
    arguments: VerifyArguments,
) -> Result<(), FollowError> {
    let VerifyArguments { request, detach, json } = arguments;
    let QueuedOperations(ids) = operation::verify(operator, definition, slot, request).await?;
    let mut all = DifferenceCounts::default();
    for ended in follow_all(operator.client(), slot, ids, FollowMode { detach, json }).await? {
        judge(&ended)?;
        if io::stdout().is_terminal() && !json {
            print_findings(&ended)?;
        }
        let DifferenceCounts { missing, stale, orphaned, repaired, undecided } = ended.counts;
        all.missing += missing;
        all.stale += stale;
        all.orphaned += orphaned;
        all.repaired += repaired;
        all.undecided += undecided;
    }
    let DifferenceCounts { missing, stale, orphaned, repaired, .. } = all;
    match all.found() {
        0 => Ok(()),
        found => Err(FollowError::Differences { found, missing, stale, orphaned, repaired }),
    }
}

/// The documents that differ, as a table.
fn print_findings(ended: &OperationRow) -> Result<(), FollowError> {
    let Some(findings) = ended.findings.as_ref().filter(|all| !all.is_empty()) else {
        return Ok(());
    };
    let head = ["INDEX", "ID", "DIFFERENCE", "FIELDS", "REPAIRED"];
    let cells = findings.iter().map(|finding| {
        [
            finding.index.clone(),
            finding.id.clone(),
            finding.kind.as_str().to_owned(),
            finding.fields.join(", "),
            if finding.repaired { "yes" } else { "no" }.to_owned(),
        ]
    });
    Ok(say(&columns(head, cells))?)
}

/// How operations are followed.
#[derive(Clone, Copy)]
struct FollowMode {
    detach: bool,
    json: bool,
}

/// Follows operations one after the other; returns those that have ended.
async fn follow_all(
    client: &Client,
    slot: &str,
    ids: Vec<i64>,
    mode: FollowMode,
) -> Result<Vec<OperationRow>, FollowError> {
    let is_terminal = io::stdout().is_terminal() && !mode.json;
    let mut ended = Vec::new();
    for id in ids {
        if mode.detach || is_terminal {
            say(&format!(
                "operation {id} is queued, and goes on when this command ends; `walferry cancel \
                 {id}` cancels it"
            ))?;
        }
        if !mode.detach {
            ended.push(follow(client, slot, id, is_terminal).await?);
        }
    }
    Ok(ended)
}

fn read_keys(file: &Path) -> Result<Vec<String>, FollowError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| FollowError::Keys { file: file.to_owned(), source })?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn judge(ended: &OperationRow) -> Result<(), FollowError> {
    let id = ended.id;
    match ended.state.as_str() {
        "cancelled" => Err(FollowError::Cancelled { id }),
        "failed" => {
            let error = ended.error.clone().unwrap_or_default();
            Err(FollowError::Failed { id, error })
        }
        _ if ended.refused_count > 0 => {
            Err(FollowError::Refused { id, refused: ended.refused_count })
        }
        _ => Ok(()),
    }
}

/// Prints the progress of an operation until it has ended.
async fn follow(
    client: &Client,
    slot: &str,
    id: i64,
    is_terminal: bool,
) -> Result<OperationRow, FollowError> {
    let mut rate = Rate::default();
    let mut said: Option<(Instant, OperationRow)> = None;
    loop {
        let found = list(client, slot, Some(id), 1).await?;
        let row = found.into_iter().next().ok_or(OperationError::Unknown(id))?;
        rate.observe(Instant::now(), row.row_count);
        if is_terminal {
            let mut out = io::stdout().lock();
            write!(out, "\r{}\u{1b}[K", line(&row, &rate))?;
            out.write_all(if row.has_ended() { b"\n" } else { b"" })?;
            out.flush()?;
        } else {
            let is_due = said.as_ref().is_none_or(|(at, before)| {
                before.state != row.state
                    || before.waits_for != row.waits_for
                    || (before.row_count != row.row_count && at.elapsed() >= SAY_EVERY)
            });
            if is_due || row.has_ended() {
                say(&as_json(&row).to_string())?;
                said = Some((Instant::now(), row.clone()));
            }
        }
        if row.has_ended() {
            return Ok(row);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Rows in a second since the first look.
#[derive(Default)]
struct Rate {
    first: Option<(Instant, u64)>,
    per_second: u64,
}

impl Rate {
    fn observe(&mut self, now: Instant, rows: u64) {
        let (since, before) = *self.first.get_or_insert((now, rows));
        let seconds = now.saturating_duration_since(since).as_millis();
        let rows = u128::from(rows.saturating_sub(before)) * 1000;
        self.per_second =
            rows.checked_div(seconds).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    }
}

/// One line about an operation.
fn line(row: &OperationRow, rate: &Rate) -> String {
    let OperationRow { id, table, state, row_count, row_estimate, .. } = row;
    let left = row_estimate.saturating_sub(*row_count).checked_div(rate.per_second);
    let left =
        left.filter(|_| !row.has_ended()).map(|s| format!(", {s} s left")).unwrap_or_default();
    let waits =
        row.waits_for.as_ref().map(|what| format!(", waits for {what}")).unwrap_or_default();
    let found = match row.counts.found() {
        0 => String::new(),
        found => format!(", {found} documents differ"),
    };
    let waits = format!("{found}{waits}");
    format!(
        "operation {id} on {table}: {state}, {row_count} of about {row_estimate} rows, {}/s{left}{waits}",
        rate.per_second
    )
}

/// The newest operations, as a table or as one JSON array.
pub(super) async fn operations(
    client: &Client,
    slot: &str,
    limit: u32,
    as_array: bool,
) -> Result<String, QueueError> {
    let rows = list(client, slot, None, limit).await?;
    if as_array {
        let all: Vec<serde_json::Value> = rows.iter().map(as_json).collect();
        return Ok(serde_json::json!(all).to_string());
    }
    if rows.is_empty() {
        return Ok("no operation was asked for".to_owned());
    }
    let head =
        ["ID", "KIND", "TABLE", "STATE", "ROWS", "OF ABOUT", "REFUSED", "DIFFER", "BY", "REMARK"];
    let cells = rows.into_iter().map(|row| {
        [
            row.id.to_string(),
            row.kind,
            row.table,
            row.state,
            row.row_count.to_string(),
            row.row_estimate.to_string(),
            row.refused_count.to_string(),
            row.counts.found().to_string(),
            row.requested_by,
            row.error.or(row.waits_for.map(|what| format!("waits for {what}"))).unwrap_or_default(),
        ]
    });
    Ok(columns(head, cells))
}

/// Cancels, pauses or resumes an operation.
pub(super) async fn steer(
    operator: &Operator,
    slot: &str,
    id: i64,
    steer: Steer,
) -> Result<String, OperationError> {
    operation::steer(operator, slot, id, steer).await?;
    Ok(match steer {
        Steer::Cancel => format!("operation {id} is cancelled; what it has sent stays"),
        Steer::Pause => format!("operation {id} is paused; `walferry resume {id}` goes on with it"),
        Steer::Resume => format!("operation {id} goes on from where it was"),
    })
}
