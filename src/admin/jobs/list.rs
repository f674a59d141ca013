//! Looks at jobs, for people: lists, single jobs, a record's history. Never `change_data` whole.
//!
//! Every look is bounded: by an index, a limit, or the session's `statement_timeout`.
//!
//! Not here: changing anything (`operate`).

use tokio_postgres::{Client, Row};

use super::filter::Filter;
use crate::storage::queue::status::Status;
use crate::storage::{QueueError, doing};

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

/// The columns of [`Shown`], of `q`.
const COLUMNS: &str = "q.id, q.table_name, q.operation, q.record_id::text as record_id, q.status,
    coalesce(q.retry_count, 0) as retry_count, q.error_message,
    walferry.iso(q.created_at) as created_at, walferry.iso(q.processed_at) as processed_at";

/// Ids follow the order of commit but for jobs that something else inserted; within so many of
/// the newest, a list is in the order of `created_at` whatever the ids say.
const WINDOW: i64 = 1_000;
/// A record with more jobs shows the newest of these.
const NARROW_MAX: i64 = 20_000;
/// Counting ends here.
pub const COUNT_MAX: i64 = 10_000;

/// The newest jobs that match: `limit` of them behind the first `offset`.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn jobs(
    client: &Client,
    filter: &Filter,
    tables: &[String],
    (offset, limit): (i64, i64),
) -> Result<Vec<Shown>, QueueError> {
    let conditions = filter.conditions(tables);
    let (from, where_) = ("public.elasticsearch_sync_queue", &conditions.sql);
    let (skip, take, window) = (conditions.after(1), conditions.after(2), conditions.after(3));
    // Which rows are looked at; the newest of them are shown.
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
    // Columns of the outer `q` only, so that the text of times is made for what is shown.
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
    let shown: Result<Vec<Shown>, tokio_postgres::Error> = rows.iter().map(shown).collect();
    shown.map_err(doing("list jobs"))
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

pub(super) fn shown(row: &Row) -> Result<Shown, tokio_postgres::Error> {
    Ok(Shown {
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
