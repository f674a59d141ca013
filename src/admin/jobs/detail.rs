//! One job with all that is known of it, column by column.
//!
//! Values are cut in the database: a row may be a hundred megabytes, and nobody reads that.
//!
//! Not here: which columns are private (`engine::document::definition`).

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Row};

use super::filter::STUCK;
use super::list::{COLUMNS, Shown, shown};
use crate::storage::{QueueError, doing};

/// Characters of a value's JSON text that are shown.
pub const VALUE_CHARACTERS_MAX: i32 = 65_536;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    pub shown: Shown,
    /// As PostgreSQL writes it; `None` for a row that something else inserted.
    pub commit_lsn: Option<String>,
    pub ordinal: Option<i64>,
    /// With its epoch.
    pub xid: Option<i64>,
    /// ISO 8601, UTC.
    pub started_at: Option<String>,
    /// ISO 8601, UTC.
    pub next_attempt_at: Option<String>,
    pub epoch: Option<i64>,
    /// Milliseconds from the commit to the start of the last attempt.
    pub waited_ms: Option<f64>,
    /// Milliseconds from there to the end.
    pub worked_ms: Option<f64>,
    /// Milliseconds from the commit to the end.
    pub total_ms: Option<f64>,
    pub stuck: bool,
    pub columns: Vec<ColumnChange>,
}

/// A column before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnChange {
    pub column: String,
    pub old: Option<Image>,
    pub new: Option<Image>,
    pub changed: bool,
}

/// A value's JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub json: String,
    /// There is more of it.
    pub is_cut: bool,
}

/// Both images of the job `$1`, side by side, at most `$2` characters of each value.
const COLUMN_CHANGES: &str = "
    with job as (
        select q.operation, q.change_data as data from public.elasticsearch_sync_queue q
        where q.id = $1 order by q.created_at desc limit 1),
    image as (
        select case operation when 'UPDATE' then data -> 'old' when 'DELETE' then data end as old,
               case operation when 'UPDATE' then data -> 'new' when 'INSERT' then data end as new
        from job),
    o as (select e.key, e.value from image, jsonb_each(
              case when jsonb_typeof(old) = 'object' then old else '{}' end) e),
    n as (select e.key, e.value from image, jsonb_each(
              case when jsonb_typeof(new) = 'object' then new else '{}' end) e)
    select key, left(o.value::text, $2), length(o.value::text) > $2,
           left(n.value::text, $2), length(n.value::text) > $2, o.value is distinct from n.value
    from o full join n using (key) order by key";

/// A job by its number.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn detail(client: &Client, id: i64) -> Result<Option<Detail>, QueueError> {
    let time = |column| {
        format!("to_char({column} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
    };
    let between = |from, to| format!("(extract(epoch from {to} - {from}) * 1000)::float8");
    let sql = format!(
        "select {COLUMNS}, q.commit_lsn, q.ordinal, q.xid, {}, {}, q.epoch, {}, {}, {}, {STUCK}
         from public.elasticsearch_sync_queue q where q.id = $1
         order by q.created_at desc limit 1",
        time("q.started_at"),
        time("q.next_attempt_at"),
        between("q.created_at", "q.started_at"),
        between("q.started_at", "q.processed_at"),
        between("q.created_at", "q.processed_at"),
    );
    let row = client.query_opt(&sql, &[&id]).await.map_err(doing("read a job"))?;
    let Some(row) = row else { return Ok(None) };
    let columns = client.query(COLUMN_CHANGES, &[&id, &VALUE_CHARACTERS_MAX]).await;
    let columns = columns.map_err(doing("read a job's change"))?;
    let columns: Result<Vec<ColumnChange>, _> = columns.iter().map(column).collect();
    let columns = columns.map_err(doing("read a job's change"))?;
    from_row(&row, columns).map(Some).map_err(doing("read a job"))
}

fn from_row(row: &Row, columns: Vec<ColumnChange>) -> Result<Detail, tokio_postgres::Error> {
    Ok(Detail {
        shown: shown(row)?,
        commit_lsn: row.try_get::<_, Option<PgLsn>>(9)?.map(|lsn| lsn.to_string()),
        ordinal: row.try_get(10)?,
        xid: row.try_get(11)?,
        started_at: row.try_get(12)?,
        next_attempt_at: row.try_get(13)?,
        epoch: row.try_get(14)?,
        waited_ms: row.try_get(15)?,
        worked_ms: row.try_get(16)?,
        total_ms: row.try_get(17)?,
        stuck: row.try_get::<_, Option<bool>>(18)?.unwrap_or(false),
        columns,
    })
}

fn column(row: &Row) -> Result<ColumnChange, tokio_postgres::Error> {
    let image = |text: Option<String>, cut: Option<bool>| {
        text.map(|json| Image { json, is_cut: cut.unwrap_or(false) })
    };
    Ok(ColumnChange {
        column: row.try_get(0)?,
        old: image(row.try_get(1)?, row.try_get(2)?),
        new: image(row.try_get(3)?, row.try_get(4)?),
        changed: row.try_get::<_, Option<bool>>(5)?.unwrap_or(false),
    })
}
