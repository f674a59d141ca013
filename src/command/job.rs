//! `walferry job`: one job with its change, column by column.
//!
//! Columns that no document shows are masked.
//!
//! Not here: the JSON document (`admin::jobs::document`).

use tokio_postgres::Client;

use super::jobs::JobsError;
use super::output::columns;
use crate::admin::jobs::detail::{self, Image, JobDetail};
use crate::admin::jobs::document;
use crate::engine::document::definition::Definition;
use crate::engine::document::visible::VisibleColumns;

/// One job with all that is known of it, as JSON or as lines.
pub(super) async fn shown(
    client: &Client,
    definition: &Definition,
    id: i64,
    as_json: bool,
) -> Result<String, JobsError> {
    if as_json { json(client, definition, id).await } else { text(client, definition, id).await }
}

/// The document that `GET jobs/{id}` answers with.
async fn json(client: &Client, definition: &Definition, id: i64) -> Result<String, JobsError> {
    let job = document::read(client, definition, id).await?.ok_or(JobsError::Unknown(id))?;
    Ok(serde_json::to_string(&job).expect("every part of a job is text, a number or JSON"))
}

/// A few lines, and the change as a table.
async fn text(client: &Client, definition: &Definition, id: i64) -> Result<String, JobsError> {
    let job = detail::detail(client, id).await?.ok_or(JobsError::Unknown(id))?;
    let visible = definition.visible_columns(&job.summary.table_name);
    Ok(lines(&job, &visible))
}

fn value(image: Option<&Image>, is_private: bool) -> String {
    match image {
        None => "-".to_owned(),
        Some(_) if is_private => "(masked)".to_owned(),
        Some(image) => {
            let short: String = image.json.chars().take(60).collect();
            let cut = image.is_cut || short.len() < image.json.len();
            if cut { format!("{short}…") } else { short }
        }
    }
}

fn lines(job: &JobDetail, visible: &VisibleColumns) -> String {
    let summary = &job.summary;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let head = format!(
        "job {} is {}: {} of {} {}\ncommitted {}, started {}, ended {}; refused {} time(s)\n\
         LSN {}, transaction {}\nerror {}",
        summary.id,
        summary.status,
        summary.operation,
        summary.table_name,
        summary.record_id,
        or_none(&summary.created_at),
        or_none(&job.started_at),
        or_none(&summary.processed_at),
        summary.retry_count,
        or_none(&job.commit_lsn),
        job.xid.map_or_else(|| "-".to_owned(), |xid| xid.to_string()),
        or_none(&summary.error_message),
    );
    let note = job.note.iter().map(|note| format!("\nnote {note}"));
    let head = head + &note.collect::<String>();
    let rows = job.columns.iter().map(|column| {
        let is_private = !visible.shows(&column.column);
        [
            if column.changed { "*" } else { "" }.to_owned(),
            column.column.clone(),
            value(column.old.as_ref(), is_private),
            value(column.new.as_ref(), is_private),
        ]
    });
    format!("{head}\n{}", columns(["", "COLUMN", "OLD", "NEW"], rows))
}
