//! `walferry jobs`, `retry` and `discard`: the queue from a terminal.
//!
//! Not here: the statements (`admin::jobs::operations`). A running instance takes up what became `pending`
//! within a second.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;

use crate::admin::jobs::filter::Filter;
use crate::admin::jobs::list;
use crate::admin::jobs::list::Shown;
use crate::admin::jobs::operations;
use crate::admin::jobs::operations::PartialFailure;
use crate::storage::audit;
use crate::storage::audit::{Actor, AuditRequest, Outcome};
use crate::storage::queue::status::Status;
use crate::storage::{QueueError, doing};

/// Nobody waits longer at a terminal for a word.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Why nothing was listed or retried.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    #[error("there is no job {0}; `walferry jobs` lists them")]
    Unknown(i64),
    #[error("job {id} is {status}; only failed jobs can be retried")]
    NotFailed { id: i64, status: String },
    #[error(
        "say which failed jobs: --id, --table or --error choose some, --all means every one of them"
    )]
    NotChosen,
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl JobsError {
    /// The process' exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Unknown(_) | Self::NotFailed { .. } => 1,
            Self::NotChosen => 2,
            Self::Queue(_) => 3,
        }
    }
}

/// The jobs that match, as a table or as one JSON array.
///
/// # Errors
///
/// [`JobsError`].
pub(super) async fn list(
    client: &Client,
    filter: &Filter,
    tables: &[String],
    (limit, as_json): (u32, bool),
) -> Result<String, JobsError> {
    let jobs = list::jobs(client, filter, tables, (0, i64::from(limit))).await?;
    if let (Some(ids), true) = (&filter.ids, jobs.is_empty())
        && let Some(id) = ids.first()
    {
        return Err(JobsError::Unknown(*id));
    }
    Ok(if as_json { json_array(&jobs) } else { table(&jobs) })
}

/// What is done with failed jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FailedJobAction {
    /// They are `pending` again.
    Retry,
    /// They are deleted, for this reason.
    Discard(String),
}

/// Retries or discards failed jobs, or says how many that would be.
///
/// # Errors
///
/// [`JobsError`]; then nothing was changed.
pub(super) async fn failed(
    client: &Client,
    (filter, all): (&Filter, bool),
    tables: &[String],
    (deed, dry_run): (&FailedJobAction, bool),
) -> Result<String, JobsError> {
    if *filter == Filter::default() && !all {
        return Err(JobsError::NotChosen);
    }
    for id in filter.ids.iter().flatten() {
        let one = Filter { ids: Some(vec![*id]), ..Filter::default() };
        let found = list::jobs(client, &one, tables, (0, 1)).await?;
        let job = found.first().ok_or(JobsError::Unknown(*id))?;
        if job.status != Status::Failed.as_str() {
            return Err(JobsError::NotFailed { id: *id, status: job.status.clone() });
        }
    }
    if dry_run {
        let count = operations::count_failed(client, filter, tables).await?;
        let word = if *deed == FailedJobAction::Retry { "retried" } else { "discarded" };
        return Ok(format!("{count} failed jobs would be {word}; nothing was changed"));
    }
    let (action, reason) = match deed {
        FailedJobAction::Retry => ("retry", None),
        FailedJobAction::Discard(reason) => ("discard", Some(reason.clone())),
    };
    let asked = AuditRequest { action, target: Some(target(filter)), reason };
    let done = trailed(client, &asked, async {
        let done = match deed {
            FailedJobAction::Retry => operations::retry(client, filter, tables, TIME_MAX).await?,
            FailedJobAction::Discard(_) => {
                operations::discard(client, filter, tables, TIME_MAX).await?
            }
        };
        Ok((done, done.jobs))
    });
    let done = done.await?;
    let more = if done.more { "; there are more, run this again" } else { "" };
    let did = if *deed == FailedJobAction::Retry { "are pending again" } else { "were discarded" };
    Ok(format!("{} failed jobs {did}{more}", done.jobs))
}

fn target(filter: &Filter) -> String {
    let mut words = vec!["failed jobs".to_owned()];
    if let Some(ids) = &filter.ids {
        words.push(format!("with ids {ids:?}"));
    }
    words.extend(filter.table.iter().map(|table| format!("of table {table}")));
    words.extend(filter.record_id.iter().map(|id| format!("of record {id}")));
    words.extend(filter.error.iter().map(|error| format!("whose error has {error:?} in it")));
    words.join(" ")
}

/// Does something between two lines of the audit log.
///
/// # Errors
///
/// Those of the deed, or of the log: what cannot be written down is not done.
pub(super) async fn trailed<T>(
    client: &Client,
    asked: &AuditRequest,
    deed: impl Future<Output = Result<(T, u64), PartialFailure>>,
) -> Result<T, QueueError> {
    let who = client.query_one("select current_user::text", &[]).await;
    let name = who.and_then(|row| row.try_get(0)).map_err(doing("ask who we are"))?;
    let actor = Actor { name, role: "terminal".to_owned(), address: None, request_id: None };
    let id = audit::begin(client, &actor, asked, Outcome::Started).await?;
    match deed.await {
        Ok((answer, affected)) => {
            audit::end(client, id, Outcome::Done, affected, None).await?;
            Ok(answer)
        }
        Err(PartialFailure { error, jobs }) => {
            let said = error.to_string();
            // The deed's own error is worth more than the log's.
            drop(audit::end(client, id, Outcome::Failed, jobs, Some(&said)).await);
            Err(error)
        }
    }
}

fn json_array(jobs: &[Shown]) -> String {
    let jobs: Vec<_> = jobs
        .iter()
        .map(|job| {
            json!({
                "id": job.id, "table_name": job.table_name, "operation": job.operation,
                "record_id": job.record_id, "status": job.status, "created_at": job.created_at,
                "processed_at": job.processed_at, "retry_count": job.retry_count,
                "error_message": job.error_message,
            })
        })
        .collect();
    serde_json::Value::from(jobs).to_string()
}

fn table(jobs: &[Shown]) -> String {
    if jobs.is_empty() {
        return "no jobs".to_owned();
    }
    let head = ["ID", "STATUS", "TABLE", "OPERATION", "RECORD", "CREATED", "RETRIES", "ERROR"];
    let rows = jobs.iter().map(|job| {
        [
            job.id.to_string(),
            job.status.clone(),
            job.table_name.clone(),
            job.operation.clone(),
            job.record_id.clone(),
            job.created_at.clone().unwrap_or_default(),
            job.retry_count.to_string(),
            job.error_message.clone().unwrap_or_default().replace('\n', " "),
        ]
    });
    columns(head, rows)
}

/// Rows under a head, each column as wide as its widest cell.
pub(super) fn columns<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let job = Shown {
            id: 7,
            table_name: "listings".to_owned(),
            operation: "UPDATE".to_owned(),
            record_id: "c0000000-0000-4000-8000-000000000001".to_owned(),
            status: "failed".to_owned(),
            retry_count: 3,
            error_message: Some("refused\nnote".to_owned()),
            created_at: Some("2026-11-24T10:00:00.000Z".to_owned()),
            processed_at: None,
        };
        let lines: Vec<String> = table(&[job]).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        let at = |word: &str, line: &str| line.find(word);
        assert_eq!(at("STATUS", &lines[0]), at("failed", &lines[1]));
        assert_eq!(at("ERROR", &lines[0]), at("refused note", &lines[1]));
        assert_eq!(table(&[]), "no jobs");
    }
}
