//! What an operator may do to the queue: look, try again, clear, halt and resume.
//!
//! These work without the lease: a running instance notices what they leave `pending`, and their
//! choice of indexing, within a second. Nothing here drops unfinished work.
//!
//! Not here: who may do it (`api`), and how it is written down (`command`).

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::status::Status;
use super::{QueueError, doing};

/// Which jobs are meant; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub ids: Option<Vec<i64>>,
    pub table: Option<String>,
    pub status: Option<Status>,
    /// A part of `error_message`, in any case.
    pub error: Option<String>,
}

/// A job as people see it; never its `change_data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub id: i64,
    pub table_name: String,
    pub operation: String,
    pub record_id: String,
    pub status: String,
    pub retry_count: i32,
    pub error_message: Option<String>,
    /// ISO 8601, UTC.
    pub created_at: Option<String>,
    /// ISO 8601, UTC.
    pub processed_at: Option<String>,
}

/// `$1` to `$4`: ids, table, status, a part of the error.
const MATCHES: &str = "($1::bigint[] is null or q.id = any ($1))
    and ($2::text is null or q.table_name = $2) and ($3::text is null or q.status = $3)
    and ($4::text is null or strpos(lower(q.error_message), lower($4)) > 0)";

const COLUMNS: &str = "q.id, q.table_name, q.operation, q.record_id::text, q.status,
    coalesce(q.retry_count, 0), q.error_message,
    to_char(q.created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
    to_char(q.processed_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";

/// Jobs moved or deleted by one statement.
const JOBS_AT_ONCE: i64 = 20_000;

/// The newest jobs that match, at most `limit`.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn jobs(client: &Client, filter: &Filter, limit: i64) -> Result<Vec<Shown>, QueueError> {
    let sql = format!(
        "select {COLUMNS} from public.elasticsearch_sync_queue q where {MATCHES}
         order by q.created_at desc, q.id desc limit $5"
    );
    let status = filter.status.map(Status::as_str);
    let parameters: [&(dyn ToSql + Sync); 5] =
        [&filter.ids, &filter.table, &status, &filter.error, &limit];
    let rows = client.query(&sql, &parameters).await.map_err(doing("list jobs"))?;
    let shown: Result<Vec<Shown>, tokio_postgres::Error> = rows.iter().map(shown).collect();
    shown.map_err(doing("list jobs"))
}

fn shown(row: &Row) -> Result<Shown, tokio_postgres::Error> {
    Ok(Shown {
        id: row.try_get(0)?,
        table_name: row.try_get(1)?,
        operation: row.try_get(2)?,
        record_id: row.try_get(3)?,
        status: row.try_get(4)?,
        retry_count: row.try_get(5)?,
        error_message: row.try_get(6)?,
        created_at: row.try_get(7)?,
        processed_at: row.try_get(8)?,
    })
}

/// How many `failed` jobs match.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn count_failed(client: &Client, filter: &Filter) -> Result<u64, QueueError> {
    let sql = format!(
        "select count(*) from public.elasticsearch_sync_queue q
         where q.status = 'failed' and {MATCHES}"
    );
    let status = filter.status.map(Status::as_str);
    let parameters: [&(dyn ToSql + Sync); 4] = [&filter.ids, &filter.table, &status, &filter.error];
    let row = client.query_one(&sql, &parameters).await.map_err(doing("count failed jobs"))?;
    row.try_get(0).map(super::sql::count).map_err(doing("count failed jobs"))
}

/// What was done before the time was up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub jobs: u64,
    /// There may be more: call again.
    pub more: bool,
}

/// Makes the `failed` jobs that match `pending`, with all attempts before them, some thousands at
/// a time. Their last error stays to be read until they settle.
///
/// # Errors
/// [`QueueError::Database`]; what was moved by then stays moved.
pub async fn retry(
    client: &Client,
    filter: &Filter,
    time_max: Duration,
) -> Result<Done, QueueError> {
    let sql = format!(
        "update public.elasticsearch_sync_queue q
         set status = 'pending', retry_count = 0, next_attempt_at = null, processed_at = null,
             started_at = null, epoch = null
         where q.status = 'failed' and (q.id, q.created_at) in (
             select q.id, q.created_at from public.elasticsearch_sync_queue q
             where q.status = 'failed' and {MATCHES} limit $5)"
    );
    let status = filter.status.map(Status::as_str);
    let parameters: [&(dyn ToSql + Sync); 5] =
        [&filter.ids, &filter.table, &status, &filter.error, &JOBS_AT_ONCE];
    repeated(client, &sql, &parameters, time_max).await
}

/// Deletes finished jobs, `completed` and `failed`, some thousands at a time. What is `pending` or
/// `processing` stays.
///
/// # Errors
/// [`QueueError::Database`]; what was deleted by then stays deleted.
pub async fn clear(client: &Client, time_max: Duration) -> Result<Done, QueueError> {
    const CLEAR: &str = "delete from public.elasticsearch_sync_queue q
        using (select id, created_at from public.elasticsearch_sync_queue
               where status in ('completed', 'failed') order by processed_at limit $1) as f
        where q.id = f.id and q.created_at = f.created_at
          and q.status in ('completed', 'failed')";
    repeated(client, CLEAR, &[&JOBS_AT_ONCE], time_max).await
}

/// Repeats a statement until it finds nothing, or until the time is up.
async fn repeated(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    time_max: Duration,
) -> Result<Done, QueueError> {
    let statement = client.prepare(sql).await.map_err(doing("prepare an operation"))?;
    let end = Instant::now() + time_max;
    let mut jobs = 0;
    loop {
        let some = client.execute(&statement, parameters).await;
        let some = some.map_err(doing("operate on jobs"))?;
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
    const COUNT: &str = "select pending_jobs + processing_jobs
        from public.get_elasticsearch_queue_stats()";
    let row = client.query_one(COUNT, &[]).await.map_err(doing("count unfinished jobs"))?;
    row.try_get(0).map(super::sql::count).map_err(doing("count unfinished jobs"))
}

/// Stores whether jobs shall be indexed; capture goes on either way.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn set_indexing(client: &Client, slot: &str, on: bool) -> Result<(), QueueError> {
    const SET: &str = "insert into walferry.control (slot, indexing) values ($1, $2)
        on conflict (slot) do update set indexing = excluded.indexing,
            changed_at = case when walferry.control.indexing = excluded.indexing
                then walferry.control.changed_at else clock_timestamp() end";
    client.execute(SET, &[&slot, &on]).await.map(drop).map_err(doing("store the choice"))
}

/// Whether jobs shall be indexed; they shall unless somebody said otherwise.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn indexing(client: &Client, slot: &str) -> Result<bool, QueueError> {
    const GET: &str = "select indexing from walferry.control where slot = $1";
    let row = client.query_opt(GET, &[&slot]).await.map_err(doing("read the choice"))?;
    row.map_or(Ok(true), |row| row.try_get(0).map_err(doing("read the choice")))
}
