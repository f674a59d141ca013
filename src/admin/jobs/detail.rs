//! One job with all that is known of it, column by column.
//!
//! Values are cut in the database, since a row may have a hundred megabytes.
//!
//! Not here: which columns are private (`engine::document::definition`).

use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Row};

use super::list::{JobSummary, summary};
use crate::storage::{QueueError, doing};

/// Characters of a value's JSON text that are shown.
pub const VALUE_CHARACTERS_MAX: i32 = 65_536;

/// A job with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobDetail {
    pub summary: JobSummary,
    /// What was altered when the change was recorded.
    pub note: Option<String>,
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

const DETAIL: &str = include_str!("detail.sql");

const COLUMN_CHANGES: &str = include_str!("detail_columns.sql");

/// A job by its number.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn detail(client: &Client, id: i64) -> Result<Option<JobDetail>, QueueError> {
    let row = client.query_opt(DETAIL, &[&id]).await.map_err(doing("read a job"))?;
    let Some(row) = row else { return Ok(None) };
    let columns = client.query(COLUMN_CHANGES, &[&id, &VALUE_CHARACTERS_MAX]).await;
    let columns = columns.map_err(doing("read a job's change"))?;
    let columns: Result<Vec<ColumnChange>, _> = columns.iter().map(column).collect();
    let columns = columns.map_err(doing("read a job's change"))?;
    from_row(&row, columns).map(Some).map_err(doing("read a job"))
}

fn from_row(row: &Row, columns: Vec<ColumnChange>) -> Result<JobDetail, tokio_postgres::Error> {
    Ok(JobDetail {
        summary: summary(row)?,
        note: row.try_get("note")?,
        commit_lsn: row.try_get::<_, Option<PgLsn>>("commit_lsn")?.map(|lsn| lsn.to_string()),
        ordinal: row.try_get("ordinal")?,
        xid: row.try_get("xid")?,
        started_at: row.try_get("started_at")?,
        next_attempt_at: row.try_get("next_attempt_at")?,
        epoch: row.try_get("epoch")?,
        waited_ms: row.try_get("waited_ms")?,
        worked_ms: row.try_get("worked_ms")?,
        total_ms: row.try_get("total_ms")?,
        stuck: row.try_get::<_, Option<bool>>("is_stuck")?.unwrap_or(false),
        columns,
    })
}

fn column(row: &Row) -> Result<ColumnChange, tokio_postgres::Error> {
    let image = |text: Option<String>, cut: Option<bool>| {
        text.map(|json| Image { json, is_cut: cut.unwrap_or(false) })
    };
    Ok(ColumnChange {
        column: row.try_get("key")?,
        old: image(row.try_get("old")?, row.try_get("is_old_cut")?),
        new: image(row.try_get("new")?, row.try_get("is_new_cut")?),
        changed: row.try_get::<_, Option<bool>>("is_changed")?.unwrap_or(false),
    })
}
