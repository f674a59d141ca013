//! Lists of jobs for people, and a record's history. Never `change_data`.
//!
//! Every query is bounded: by an index, a limit, or the session's `statement_timeout`.
//!
//! Not here: changes to jobs (`operations`).

use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::{Client, Row};

use super::filter::Filter;
use crate::admin::figures::sample;
use crate::admin::page::Page;
use crate::storage::queue::status::Status;
use crate::storage::{QueueError, doing};

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Job")]
pub struct JobSummary {
    pub id: i64,
    pub table_name: String,
    pub operation: String,
    pub record_id: String,
    pub status: String,
    /// ISO 8601, UTC.
    pub created_at: Option<String>,
    /// ISO 8601, UTC.
    pub processed_at: Option<String>,
    pub retry_count: i32,
    pub error_message: Option<String>,
}

/// Jobs of one page, and how many there are on all pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPage {
    pub jobs: Vec<JobSummary>,
    pub total: i64,
    /// There are more than `total`: counting ended there.
    pub total_is_estimate: bool,
}

/// The columns of [`JobSummary`], of `q`.
const COLUMNS: &str = "q.id, q.table_name, q.operation, q.record_id::text as record_id, q.status,
    coalesce(q.retry_count, 0) as retry_count, q.error_message,
    walferry.iso(q.created_at) as created_at, walferry.iso(q.processed_at) as processed_at";

/// Ids follow the order of commit but for jobs that something else inserted; within so many of
/// the newest, a list is in the order of `created_at`, not of ids.
const WINDOW: i64 = 1_000;
/// A record with more jobs shows the newest of these.
const NARROW_MAX: i64 = 20_000;
/// Counting ends here.
pub const COUNT_MAX: i64 = 10_000;
/// Rows before a page. To see more of them, an operator narrows the list by a filter.
pub const OFFSET_MAX: i64 = 100_000;

/// One page of the jobs that match, the newest first.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn jobs(
    client: &Client,
    filter: &Filter,
    tables: &[String],
    page: Page,
) -> Result<Vec<JobSummary>, QueueError> {
    let Page { offset, limit } = page;
    let conditions = filter.conditions(tables);
    let from = "public.elasticsearch_sync_queue";
    let where_ = &conditions.sql;
    let skip = conditions.after(1);
    let take = conditions.after(2);
    let window = conditions.after(3);
    // The rows that are read; the newest of them are listed.
    let inner = match filter.status {
        _ if filter.is_narrow() => format!("where {where_} limit {window}"),
        Some(Status::Completed) => {
            format!("where {where_} order by q.processed_at desc limit {window}")
        }
        Some(_) => format!("where {where_} order by q.created_at desc, q.id desc limit {window}"),
        None if filter.stuck => format!("where {where_} order by q.created_at desc limit {window}"),
        None => format!("where {where_} order by q.id desc limit {window}"),
    };
    let rows_max = if filter.is_narrow() { NARROW_MAX } else { offset + limit + WINDOW };
    // Columns of the outer `q` only, so that times are formatted for listed rows alone.
    let sql = format!(
        "with q as materialized (
             select q.id, q.table_name, q.operation, q.record_id, q.status, q.retry_count,
                    q.error_message, q.created_at, q.processed_at
             from {from} q {inner})
         select {COLUMNS} from q order by q.created_at desc, q.id desc
         offset {skip} limit {take}"
    );
    let parameters = conditions.with(&[&offset, &limit, &rows_max]);
    let rows = client.query(&sql, &parameters).await.map_err(doing("list jobs"))?;
    let jobs: Result<Vec<JobSummary>, tokio_postgres::Error> = rows.iter().map(summary).collect();
    jobs.map_err(doing("list jobs"))
}

/// One page of the jobs that match, the newest first, and how many match. Pages that begin behind
/// [`OFFSET_MAX`] jobs are empty.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn page(
    client: &Client,
    filter: &Filter,
    tables: &[String],
    page: Page,
) -> Result<JobPage, QueueError> {
    let total = total(client, filter, tables).await?;
    let is_beyond = page.offset >= total || page.offset > OFFSET_MAX;
    let jobs = match is_beyond {
        true => Vec::new(),
        false => jobs(client, filter, tables, page).await?,
    };
    let total_is_estimate = !filter.is_plain() && total >= COUNT_MAX;
    Ok(JobPage { jobs, total, total_is_estimate })
}

/// The statistics know how many jobs have a status; other conditions are counted.
async fn total(client: &Client, filter: &Filter, tables: &[String]) -> Result<i64, QueueError> {
    if !filter.is_plain() {
        return count(client, filter, tables).await;
    }
    let counts = sample::counts(client).await?;
    Ok(match filter.status {
        _ if filter.stuck => counts.stuck,
        None => counts.total,
        Some(Status::Pending) => counts.pending,
        Some(Status::Processing) => counts.processing,
        Some(Status::Completed) => counts.completed,
        Some(Status::Failed) => counts.failed,
    })
}

/// How many jobs match, at most [`COUNT_MAX`].
///
/// # Errors
/// [`QueueError::Database`].
pub async fn count(client: &Client, filter: &Filter, tables: &[String]) -> Result<i64, QueueError> {
    let conditions = filter.conditions(tables);
    let sql = format!(
        "select count(*) as jobs from (select 1 from public.elasticsearch_sync_queue q
         where {} limit {}) counted",
        conditions.sql,
        conditions.after(1)
    );
    let parameters = conditions.with(&[&COUNT_MAX]);
    let row = client.query_one(&sql, &parameters).await.map_err(doing("count jobs"))?;
    row.try_get("jobs").map_err(doing("count jobs"))
}

/// What a list shows of a job, from a row of the statement.
pub(super) fn summary(row: &Row) -> Result<JobSummary, tokio_postgres::Error> {
    Ok(JobSummary {
        id: row.try_get("id")?,
        table_name: row.try_get("table_name")?,
        operation: row.try_get("operation")?,
        record_id: row.try_get("record_id")?,
        status: row.try_get("status")?,
        retry_count: row.try_get("retry_count")?,
        error_message: row.try_get("error_message")?,
        created_at: row.try_get("created_at")?,
        processed_at: row.try_get("processed_at")?,
    })
}
