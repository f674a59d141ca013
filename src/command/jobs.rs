//! `walferry jobs`, `retry` and `discard`.
//!
//! Not here: the operations (`admin::jobs::operations`). A running instance takes up what became
//! `pending` within a second.

use serde_json::json;
use tokio_postgres::Client;

use super::output::columns;
use crate::admin::audited::Operator;
use crate::admin::jobs::filter::Filter;
use crate::admin::jobs::list::{self, JobSummary};
use crate::admin::jobs::operations::{
    self, ChangeError, FailedJobAction, FailedJobsRequest, RestoreRequest, job_status,
};
use crate::admin::page::Page;
use crate::storage::QueueError;
use crate::storage::queue::status::Status;

/// Why nothing was listed or changed.
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
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl JobsError {
    /// The process' exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Unknown(_) | Self::NotFailed { .. } => 1,
            Self::NotChosen => 2,
            Self::Queue(_) | Self::Change(_) => 3,
        }
    }
}

/// The newest jobs that match.
///
/// # Errors
///
/// [`JobsError`].
pub(super) async fn list(
    client: &Client,
    filter: &Filter,
    tables: &[String],
    limit: u32,
) -> Result<Vec<JobSummary>, JobsError> {
    let first = Page { offset: 0, limit: i64::from(limit) };
    let jobs = list::jobs(client, filter, tables, first).await?;
    if let (Some(ids), true) = (&filter.ids, jobs.is_empty())
        && let Some(id) = ids.first()
    {
        return Err(JobsError::Unknown(*id));
    }
    Ok(jobs)
}

/// Arguments of `retry` and `discard`.
pub(super) struct FailedJobsArguments {
    pub(super) action: FailedJobAction,
    pub(super) filter: Filter,
    /// Every failed job.
    pub(super) all: bool,
    pub(super) dry_run: bool,
    /// For a discard.
    pub(super) reason: Option<String>,
}

impl FailedJobsArguments {
    pub(super) fn retry(filter: Filter, all: bool, dry_run: bool) -> Self {
        Self { action: FailedJobAction::Retry, filter, all, dry_run, reason: None }
    }

    pub(super) fn discard(filter: Filter, all: bool, dry_run: bool, reason: String) -> Self {
        let reason = Some(reason);
        Self { action: FailedJobAction::Discard, filter, all, dry_run, reason }
    }
}

/// Retries or discards failed jobs, or says how many that would be.
///
/// # Errors
///
/// [`JobsError`]; then nothing was changed.
pub(super) async fn change_failed(
    operator: Operator,
    tables: &[String],
    arguments: FailedJobsArguments,
) -> Result<String, JobsError> {
    let FailedJobsArguments { action, filter, all, dry_run, reason } = arguments;
    if filter == Filter::default() && !all {
        return Err(JobsError::NotChosen);
    }
    for id in filter.ids.iter().flatten() {
        let status = job_status(operator.client(), tables, *id).await?;
        let status = status.ok_or(JobsError::Unknown(*id))?;
        if status != Status::Failed.as_str() {
            return Err(JobsError::NotFailed { id: *id, status });
        }
    }
    if dry_run {
        let count = operations::count_failed(operator.client(), &filter, tables).await?;
        let word = match action {
            FailedJobAction::Retry => "retried",
            FailedJobAction::Discard => "discarded",
        };
        return Ok(format!("{count} failed jobs would be {word}; nothing was changed"));
    }
    let target = target(&filter);
    let request = FailedJobsRequest { action, filter, expected_count: None, target, reason };
    let done = operations::change_failed(&operator, tables, request).await?;
    let more = if done.more { "; there are more, run this again" } else { "" };
    let outcome = match action {
        FailedJobAction::Retry => "are pending again",
        FailedJobAction::Discard => "were discarded",
    };
    Ok(format!("{} failed jobs {outcome}{more}", done.jobs))
}

/// Undoes discards, or says how many jobs would come back.
///
/// # Errors
///
/// [`QueueError`].
pub(super) async fn restore(
    operator: &Operator,
    asked: RestoreRequest,
    dry_run: bool,
) -> Result<String, QueueError> {
    if dry_run {
        let count = operations::count_discarded(operator.client(), asked.ids.as_ref()).await?;
        return Ok(format!("{count} discarded jobs would come back; nothing was changed"));
    }
    let done = operations::restore(operator, asked).await?;
    let more = if done.more { "; there are more, run this again" } else { "" };
    Ok(format!("{} discarded jobs are failed again{more}", done.jobs))
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

/// The jobs as one JSON array.
fn json_array(jobs: &[JobSummary]) -> String {
    json!(jobs).to_string()
}

/// The jobs as a table or as a JSON array.
pub(super) fn shown(jobs: &[JobSummary], json: bool) -> String {
    if json { json_array(jobs) } else { table(jobs) }
}

/// The jobs as a table.
fn table(jobs: &[JobSummary]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let job = JobSummary {
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
