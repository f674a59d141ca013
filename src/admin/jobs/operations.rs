//! What an operator may do to the queue: try again, discard, clear, halt and resume, re-sync.
//!
//! These work without the lease: a running instance notices what they leave `pending`, and their
//! choice of indexing, within a second. Nothing here drops unfinished work but what is discarded.
//!
//! Not here: looking (`look`), who may do it (`api`), and how it is written down (`audit`).

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::filter::Filter;
use crate::storage::queue::status::Status;
use crate::storage::{QueueError, doing};

/// Jobs moved or deleted by one statement.
const JOBS_AT_ONCE: i64 = 2_000;

/// How many `failed` jobs match.
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
    row.try_get("jobs").map(crate::storage::sql::count).map_err(doing("count failed jobs"))
}

fn failed(filter: &Filter) -> Filter {
    Filter { status: Some(Status::Failed), stuck: false, ..filter.clone() }
}

/// What was done before the time was up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub jobs: u64,
    /// There may be more: call again.
    pub more: bool,
}

/// Why an operation ended early.
#[derive(Debug)]
pub struct PartialFailure {
    pub error: QueueError,
    /// What was moved or deleted by then, for good.
    pub jobs: u64,
}

impl From<QueueError> for PartialFailure {
    fn from(error: QueueError) -> Self {
        Self { error, jobs: 0 }
    }
}

/// Makes the `failed` jobs that match `pending`, with all attempts before them, some thousands at
/// a time. Their last error stays to be read until they settle.
///
/// # Errors
/// [`PartialFailure`]; what was moved by then stays moved.
pub async fn retry(
    client: &Client,
    filter: &Filter,
    tables: &[String],
    time_max: Duration,
) -> Result<Done, PartialFailure> {
    const RETRY: &str = "-- moves: failed -> pending
        update public.elasticsearch_sync_queue q
        set status = 'pending', retry_count = 0, next_attempt_at = null, processed_at = null,
            started_at = null, epoch = null
        from chosen";
    with_failed(client, RETRY, (filter, tables), time_max).await
}

/// Deletes the `failed` jobs that match: nobody will try them again. Their rows in the source
/// tables are as they were, and so are their documents.
///
/// # Errors
/// [`PartialFailure`]; what was deleted by then stays deleted.
pub async fn discard(
    client: &Client,
    filter: &Filter,
    tables: &[String],
    time_max: Duration,
) -> Result<Done, PartialFailure> {
    const DISCARD: &str = "delete from public.elasticsearch_sync_queue q using chosen";
    with_failed(client, DISCARD, (filter, tables), time_max).await
}

/// Does something with the failed jobs `q` that match, some thousands at a time. A row that somebody
/// holds is passed over. Chosen rows are found again by the key: an estimate of few rows would pair
/// all with all, hence no index on the status.
async fn with_failed(
    client: &Client,
    what: &str,
    (filter, tables): (&Filter, &[String]),
    time_max: Duration,
) -> Result<Done, PartialFailure> {
    let filter = failed(filter);
    let conditions = filter.conditions(tables);
    let sql = format!(
        "with chosen as materialized (
             select q.id, q.created_at from public.elasticsearch_sync_queue q
             where {} limit {} for no key update skip locked)
         {what}
         where q.id = chosen.id and q.created_at = chosen.created_at
           and q.status || '' = 'failed'",
        conditions.sql,
        conditions.after(1)
    );
    repeated(client, &sql, &conditions.with(&[&JOBS_AT_ONCE]), time_max).await
}

/// Asks for a record's documents to be rendered anew from what its row is now: a job like any
/// other, without a place in the stream. `change_data` names the row, as text of JSON. Returns
/// the job's number.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn resync(
    client: &Client,
    table: &str,
    record_id: Uuid,
    change_data: &str,
) -> Result<i64, QueueError> {
    const RESYNC: &str = "insert into public.elasticsearch_sync_queue
            (table_name, operation, record_id, change_data)
        values ($1, 'UPDATE', $2, $3::text::jsonb) returning id";
    let row = client.query_one(RESYNC, &[&table, &record_id, &change_data]).await;
    row.map_err(doing("write a job"))?.try_get("id").map_err(doing("write a job"))
}

/// Deletes finished jobs, `completed` and `failed`, some thousands at a time. What is `pending` or
/// `processing` stays.
///
/// # Errors
/// [`PartialFailure`]; what was deleted by then stays deleted.
pub async fn clear(client: &Client, time_max: Duration) -> Result<Done, PartialFailure> {
    const CLEAR: &str = "with chosen as materialized (
            select id, created_at from public.elasticsearch_sync_queue
            where status in ('completed', 'failed') order by processed_at limit $1
            for no key update skip locked)
        delete from public.elasticsearch_sync_queue q using chosen
        where q.id = chosen.id and q.created_at = chosen.created_at
          and q.status || '' in ('completed', 'failed')";
    repeated(client, CLEAR, &[&JOBS_AT_ONCE], time_max).await
}

/// Repeats a statement until it finds nothing, or until the time is up.
async fn repeated(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    time_max: Duration,
) -> Result<Done, PartialFailure> {
    let statement = client.prepare(sql).await.map_err(doing("prepare an operation"))?;
    let end = Instant::now() + time_max;
    let mut jobs = 0;
    loop {
        let some = client.execute(&statement, parameters).await;
        let some = some.map_err(doing("operate on jobs"));
        let some = some.map_err(|error| PartialFailure { error, jobs })?;
        jobs += some;
        if some == 0 {
            return Ok(Done { jobs, more: false });
        }
        if Instant::now() >= end {
            return Ok(Done { jobs, more: true });
        }
    }
}

/// How many jobs are `pending` or `processing`.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn unfinished(client: &Client) -> Result<u64, QueueError> {
    const COUNT: &str = "select pending_jobs + processing_jobs as jobs
        from public.get_elasticsearch_queue_stats()";
    let row = client.query_one(COUNT, &[]).await.map_err(doing("count unfinished jobs"))?;
    row.try_get("jobs").map(crate::storage::sql::count).map_err(doing("count unfinished jobs"))
}
