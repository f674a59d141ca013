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
const PUT_ASIDE: &str = "returning q.*)
    insert into walferry.discarded_job
        (id, table_name, operation, record_id, change_data, retry_count, error_message,
         created_at, processed_at, commit_lsn, ordinal, xid, note)
    select id, table_name, operation, record_id, change_data, retry_count, error_message,
        created_at, processed_at, commit_lsn, ordinal, xid, note
    from changed";
const RESTORE: &str = include_str!("restore.sql");
const RESTORABLE: &str = "select count(*) as jobs from walferry.discarded_job
    where discarded_at > clock_timestamp() - interval '1 day'
      and ($1::bigint[] is null or id = any ($1))";

/// What is done with failed jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedJobAction {
    /// They become `pending` with `retry_count` 0. Their last error stays until they settle.
    Retry,
    /// They are put aside for a day and not tried again. Rows and documents stay as they are.
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
            Self::Discard => {
                ", changed as (delete from public.elasticsearch_sync_queue q using chosen"
            }
        }
    }

    /// The end of its statement: discarded jobs are put aside.
    const fn end(self) -> &'static str {
        match self {
            Self::Retry => "",
            Self::Discard => PUT_ASIDE,
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

/// Discarded jobs that are to come back.
#[derive(Clone, Debug, Default)]
pub struct RestoreRequest {
    /// `None`: all of the last day.
    pub ids: Option<Vec<i64>>,
    pub reason: Option<String>,
}

/// How many discarded jobs would come back.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn count_discarded(client: &Client, ids: Option<&Vec<i64>>) -> Result<u64, QueueError> {
    let row = client.query_one(RESTORABLE, &[&ids]).await.map_err(doing("count discarded jobs"))?;
    row.try_get("jobs").map(sql::count).map_err(doing("count discarded jobs"))
}

/// Undoes discards of the last day: the jobs are `failed` again, as they were.
///
/// # Errors
/// [`QueueError::Database`]; the jobs that came back by then stay.
pub async fn restore(
    operator: &Operator,
    asked: RestoreRequest,
) -> Result<JobsChanged, QueueError> {
    let RestoreRequest { ids, reason } = asked;
    let target = match &ids {
        Some(ids) => format!("discarded jobs {ids:?}"),
        None => "all jobs discarded within a day".to_owned(),
    };
    let request = AuditRequest { action: "restore", target: Some(target), reason };
    operator.audited(request, repeat(operator, RESTORE, &[&ids, &JOBS_AT_ONCE])).await
}

/// Deletes finished jobs, `completed` and `failed`. Unfinished ones stay.
///
/// # Errors
/// [`QueueError::Database`]; the jobs deleted by then stay deleted.
pub async fn clear(operator: &Operator, reason: Option<String>) -> Result<ClearedJobs, QueueError> {
    let request = AuditRequest { action: "clear", target: None, reason };
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
pub async fn set_indexing(
    operator: &Operator,
    slot: &str,
    on: bool,
    reason: Option<String>,
) -> Result<(), QueueError> {
    let action = if on { "start" } else { "stop" };
    let request = AuditRequest { action, target: None, reason };
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
           and q.status || '' = 'failed'
         {}",
        action.statement(),
        action.end()
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
