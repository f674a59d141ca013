//! Operations on jobs: retry, discard, clear, start, stop.
//!
//! They need no lease: a running instance notices within a second which jobs are `pending` and
//! whether jobs are to be indexed. Discard and clear delete `failed` jobs; nothing deletes `pending`
//! or `processing` ones. Each operation writes its own entries in the audit log.
//!
//! Not here: lists (`list`), authorization (`api`), and the audit log's table (`storage::audit`).

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::chosen::{ChosenChunk, ChosenJobs};
use super::filter::Filter;
use super::list;
use crate::admin::audited::{AffectedRows, Operator, PartialFailure};
use crate::admin::page::Page;
use crate::engine::supervisor::requests::OperatorRequests;
use crate::storage::audit::AuditRequest;
use crate::storage::queue::status::Status;
use crate::storage::{QueueError, control, doing, sql};

/// Jobs deleted by one statement.
const JOBS_AT_ONCE: i64 = 2_000;
/// The wait for the supervisor's reset of stuck jobs.
const RESCUE_TIME_MAX: Duration = Duration::from_secs(3);

const CLEAR: &str = include_str!("clear.sql");

/// What is done with failed jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedJobAction {
    /// They become `pending` with `retry_count` 0. Their last error stays until they settle.
    Retry,
    /// They are deleted and not tried again. Rows and documents stay as they are.
    Discard,
}

impl FailedJobAction {
    /// Its name in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Discard => "discard",
        }
    }

    /// The beginning of its statement, for the rows `chosen`.
    const fn statement(self) -> &'static str {
        match self {
            Self::Retry => {
                "-- moves: failed -> pending
                 update public.elasticsearch_sync_queue q
                 set status = 'pending', retry_count = 0, next_attempt_at = null,
                     processed_at = null, started_at = null, epoch = null
                 from chosen"
            }
            Self::Discard => "delete from public.elasticsearch_sync_queue q using chosen",
        }
    }
}

/// An action on the failed jobs that match a filter.
#[derive(Clone, Debug)]
pub struct FailedJobsRequest {
    pub action: FailedJobAction,
    pub filter: Filter,
    /// Nothing is changed if another number matches.
    pub expected_count: Option<u64>,
    /// The filter in words, for the audit log.
    pub target: String,
    /// The operator's reason; a discard has one.
    pub reason: Option<String>,
}

/// What was changed before the time was up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobsChanged {
    pub jobs: u64,
    /// There may be more: the operation is to be repeated.
    pub more: bool,
}

impl AffectedRows for JobsChanged {
    fn affected_rows(&self) -> u64 {
        self.jobs
    }
}

/// What a `retry-failed` changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetriedJobs {
    pub failed: JobsChanged,
    /// Stuck jobs that were reset.
    pub stuck: u64,
}

impl AffectedRows for RetriedJobs {
    fn affected_rows(&self) -> u64 {
        self.failed.jobs
    }
}

/// What a `clear` deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClearedJobs {
    pub finished: JobsChanged,
    /// Jobs that are `pending` or `processing`. They stay.
    pub unfinished: u64,
}

impl AffectedRows for ClearedJobs {
    fn affected_rows(&self) -> u64 {
        self.finished.jobs
    }
}

/// The status of a job; `None` where there is no such job.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn job_status(
    client: &Client,
    tables: &[String],
    id: i64,
) -> Result<Option<String>, QueueError> {
    let first = Page { offset: 0, limit: 1 };
    let jobs = list::jobs(client, &Filter::of_job(id), tables, first).await?;
    Ok(jobs.into_iter().next().map(|job| job.status))
}

/// How many `failed` jobs match: what a dry run says.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn count_failed(
    client: &Client,
    filter: &Filter,
    tables: &[String],
) -> Result<u64, QueueError> {
    let filter = failed(filter);
    let conditions = filter.conditions(tables);
    let sql = format!(
        "select count(*) as jobs from public.elasticsearch_sync_queue q where {}",
        conditions.sql
    );
    let row = client.query_one(&sql, &conditions.with(&[])).await;
    let row = row.map_err(doing("count failed jobs"))?;
    row.try_get("jobs").map(sql::count).map_err(doing("count failed jobs"))
}

/// Why failed jobs were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{matched} failed jobs match now, not {expected}; nothing was changed")]
    CountChanged { expected: u64, matched: u64 },
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Retries or discards the `failed` jobs that match now. A job that fails meanwhile is not among
/// them.
///
/// # Errors
/// [`ChangeError`]; after [`QueueError::Database`] the jobs changed by then stay changed.
pub async fn change_failed(
    operator: &Operator,
    tables: &[String],
    request: FailedJobsRequest,
) -> Result<JobsChanged, ChangeError> {
    let FailedJobsRequest { action, filter, expected_count, target, reason } = request;
    let chosen = ChosenJobs::choose(&operator.client, &failed(&filter), tables).await?;
    if let Some(expected) = expected_count {
        let matched = match chosen.are_all {
            true => chosen.len(),
            false => count_failed(&operator.client, &filter, tables).await?,
        };
        if matched != expected {
            return Err(ChangeError::CountChanged { expected, matched });
        }
    }
    let target = format!("{}: {target}", chosen.words());
    let request = AuditRequest { action: action.as_str(), target: Some(target), reason };
    Ok(operator.audited(request, change(operator, action, &chosen)).await?)
}

/// Resets stuck jobs and retries every `failed` one.
///
/// # Errors
/// [`QueueError::Database`]; the jobs changed by then stay changed.
pub async fn retry_failed(
    operator: &Operator,
    tables: &[String],
    requests: &OperatorRequests,
) -> Result<RetriedJobs, QueueError> {
    let request = AuditRequest { action: "retry-failed", ..AuditRequest::default() };
    let work = async {
        let pass = requests.rescue_now(RESCUE_TIME_MAX).await;
        let stuck = pass.map_or(0, |pass| pass.rescued.total());
        let every = failed(&Filter::default());
        let chosen = ChosenJobs::choose(&operator.client, &every, tables).await?;
        let failed = change(operator, FailedJobAction::Retry, &chosen).await?;
        Ok(RetriedJobs { failed, stuck })
    };
    operator.audited(request, work).await
}

/// Deletes finished jobs, `completed` and `failed`. Unfinished ones stay.
///
/// # Errors
/// [`QueueError::Database`]; the jobs deleted by then stay deleted.
pub async fn clear(operator: &Operator) -> Result<ClearedJobs, QueueError> {
    let request = AuditRequest { action: "clear", ..AuditRequest::default() };
    let work = async {
        let finished = repeat(operator, CLEAR, &[&JOBS_AT_ONCE]).await?;
        let unfinished = unfinished(&operator.client).await;
        let unfinished =
            unfinished.map_err(|error| PartialFailure { error, affected: finished.jobs })?;
        Ok(ClearedJobs { finished, unfinished })
    };
    operator.audited(request, work).await
}

/// Starts or stops indexing. Capture goes on either way.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn set_indexing(operator: &Operator, slot: &str, on: bool) -> Result<(), QueueError> {
    let action = if on { "start" } else { "stop" };
    let request = AuditRequest { action, ..AuditRequest::default() };
    let work = async { Ok(control::set_indexing(&operator.client, slot, on).await?) };
    operator.audited(request, work).await
}

fn failed(filter: &Filter) -> Filter {
    Filter { status: Some(Status::Failed), stuck: false, ..filter.clone() }
}

/// Changes these jobs as far as they are still `failed`. A row that another transaction holds is
/// skipped. Chosen rows are found again by the key: an estimate of few rows would pair all with all,
/// so the expression `status || ''` keeps the index on the status out.
async fn change(
    operator: &Operator,
    action: FailedJobAction,
    chosen: &ChosenJobs,
) -> Result<JobsChanged, PartialFailure> {
    let sql = format!(
        "with chosen as materialized (
             select q.id, q.created_at from public.elasticsearch_sync_queue q
             where q.id = any ($1) and q.created_at between $2 and $3
               and q.status || '' = 'failed'
             for no key update skip locked)
         {}
         where q.id = chosen.id and q.created_at = chosen.created_at
           and q.status || '' = 'failed'",
        action.statement()
    );
    let client = &operator.client;
    let statement = client.prepare(&sql).await.map_err(doing("prepare an operation"))?;
    let end = Instant::now() + operator.time_max;
    let mut jobs = 0;
    let mut left = chosen.chunks().peekable();
    while let Some(ChosenChunk { ids, from, to }) = left.next() {
        let changed = client.execute(&statement, &[&ids, &from, &to]).await;
        let changed = changed.map_err(doing("operate on jobs"));
        jobs += changed.map_err(|error| PartialFailure { error, affected: jobs })?;
        if Instant::now() >= end && left.peek().is_some() {
            return Ok(JobsChanged { jobs, more: true });
        }
    }
    Ok(JobsChanged { jobs, more: !chosen.are_all })
}

/// Repeats a statement until it finds no row, or until the time is up.
async fn repeat(
    operator: &Operator,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<JobsChanged, PartialFailure> {
    let client = &operator.client;
    let statement = client.prepare(sql).await.map_err(doing("prepare an operation"))?;
    let end = Instant::now() + operator.time_max;
    let mut jobs = 0;
    loop {
        let changed = client.execute(&statement, parameters).await;
        let changed = changed.map_err(doing("operate on jobs"));
        let changed = changed.map_err(|error| PartialFailure { error, affected: jobs })?;
        jobs += changed;
        if changed == 0 {
            return Ok(JobsChanged { jobs, more: false });
        }
        if Instant::now() >= end {
            return Ok(JobsChanged { jobs, more: true });
        }
    }
}

/// How many jobs are `pending` or `processing`.
async fn unfinished(client: &Client) -> Result<u64, QueueError> {
    const COUNT: &str = "select pending_jobs + processing_jobs as jobs
        from public.get_elasticsearch_queue_stats()";
    let row = client.query_one(COUNT, &[]).await.map_err(doing("count unfinished jobs"))?;
    row.try_get("jobs").map(sql::count).map_err(doing("count unfinished jobs"))
}
