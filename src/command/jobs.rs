//! `walferry jobs` and `walferry retry`: the queue from a terminal.
//!
//! Not here: the statements (`queue::operate`). A running instance takes up what became `pending`
//! within a second.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;

use crate::queue::QueueError;
use crate::queue::operate::{self, Filter, Shown};
use crate::queue::status::Status;

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
            Self::Unknown(_) | Self::NotFailed { .. } | Self::NotChosen => 2,
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
    limit: u32,
    as_json: bool,
) -> Result<String, JobsError> {
    let jobs = operate::jobs(client, filter, i64::from(limit)).await?;
    if let (Some(ids), true) = (&filter.ids, jobs.is_empty())
        && let Some(id) = ids.first()
    {
        return Err(JobsError::Unknown(*id));
    }
    Ok(if as_json { json_array(&jobs) } else { table(&jobs) })
}

/// Makes failed jobs `pending`, or says how many that would be.
///
/// # Errors
///
/// [`JobsError`]; then nothing was changed.
pub(super) async fn retry(
    client: &Client,
    filter: &Filter,
    all: bool,
    dry_run: bool,
) -> Result<String, JobsError> {
    if *filter == Filter::default() && !all {
        return Err(JobsError::NotChosen);
    }
    for id in filter.ids.iter().flatten() {
        let one = Filter { ids: Some(vec![*id]), ..Filter::default() };
        let found = operate::jobs(client, &one, 1).await?;
        let job = found.first().ok_or(JobsError::Unknown(*id))?;
        if job.status != Status::Failed.as_str() {
            return Err(JobsError::NotFailed { id: *id, status: job.status.clone() });
        }
    }
    if dry_run {
        let count = operate::count_failed(client, filter).await?;
        return Ok(format!("{count} failed jobs would be retried; nothing was changed"));
    }
    let done = operate::retry(client, filter, TIME_MAX).await?;
    let more = if done.more { "; there are more, run this again" } else { "" };
    Ok(format!("{} failed jobs are pending again{more}", done.jobs))
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
    let mut rows = vec![
        ["ID", "STATUS", "TABLE", "OPERATION", "RECORD", "CREATED", "RETRIES", "ERROR"]
            .map(str::to_owned),
    ];
    rows.extend(jobs.iter().map(|job| {
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
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..8).map(|column| width(column).unwrap_or(0)).collect();
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
