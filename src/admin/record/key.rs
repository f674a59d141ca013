//! Which row a record stands for: from the record's id, or from the key's text, to the key.
//!
//! Where the key is a single UUID, the record's id is the key. Any other key is hashed into the
//! id, so it is read from the record's newest job.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio_postgres::Client;
use uuid::Uuid;

use super::error::RecordError;
use crate::change::{Row, TableId};
use crate::engine::document::definition::Definition;
use crate::engine::document::shape::{Shapes, TableShape};
use crate::engine::feed::render::read::{ReadError, RowReader};
use crate::storage::queue::record_id::{derived_record_id, document_id};

const NEWEST_KEY: &str = include_str!("newest_key.sql");

/// How an operator names a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordName {
    /// The `record_id` of its jobs.
    Id(Uuid),
    /// The `record_id` of its jobs, or the key as documents are named by it: a single value as it
    /// stands, several values joined by `|`.
    Text(String),
}

/// The key of a record's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordKey {
    pub(crate) record_id: Uuid,
    /// The values of the key's columns, as text.
    pub(crate) parts: Vec<String>,
    /// The key's columns; none where the record's id is the key.
    columns: Vec<String>,
}

impl RecordKey {
    fn uuid(record_id: Uuid) -> Self {
        Self { record_id, parts: vec![record_id.to_string()], columns: Vec::new() }
    }

    fn derived(shape: &TableShape, parts: Vec<String>) -> Self {
        let record_id = derived_record_id(&document_id(&parts));
        let columns = shape.key.iter().map(|column| column.name.clone()).collect();
        Self { record_id, parts, columns }
    }

    /// `change_data` of a job that names the row and nothing else of it.
    pub(crate) fn change_data(&self) -> Value {
        if self.columns.is_empty() {
            return json!({});
        }
        // A row is found by the text of its key, for every type of column.
        let pairs = self.columns.iter().cloned().zip(self.parts.iter().map(|part| json!(part)));
        json!({ "old": null, "new": pairs.collect::<Map<String, Value>>() })
    }
}

/// The table of that name.
///
/// # Errors
/// [`RecordError::UnknownTable`].
pub(crate) fn table_id(definition: &Definition, name: &str) -> Result<TableId, RecordError> {
    let tables = &definition.tables;
    let place = tables.iter().position(|table| table.name == name);
    place.and_then(|place| u16::try_from(place).ok()).map(TableId).ok_or_else(|| {
        let known: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        RecordError::UnknownTable { table: name.to_owned(), known: known.join(", ") }
    })
}

/// The key of the row that a record stands for.
///
/// # Errors
/// [`RecordError`].
pub(crate) async fn resolve(
    client: &Arc<Client>,
    shapes: &Shapes,
    table: TableId,
    name: &RecordName,
) -> Result<RecordKey, RecordError> {
    let shape = shapes.of(table);
    match name {
        RecordName::Id(id) if shape.has_uuid_key() => Ok(RecordKey::uuid(*id)),
        RecordName::Id(id) => {
            let known = newest(client, shape, *id).await?;
            known.ok_or_else(|| unknown(shape, *id))
        }
        RecordName::Text(text) if shape.has_uuid_key() => {
            let id = Uuid::try_parse(text).map_err(|_| invalid(shape, text))?;
            Ok(RecordKey::uuid(id))
        }
        RecordName::Text(text) => named_by(client, shapes, table, text).await,
    }
}

/// The key that a text stands for: that of the record with this id, or the text itself.
async fn named_by(
    client: &Arc<Client>,
    shapes: &Shapes,
    table: TableId,
    text: &str,
) -> Result<RecordKey, RecordError> {
    let shape = shapes.of(table);
    let id = Uuid::try_parse(text).ok();
    if let Some(id) = id
        && let Some(known) = newest(client, shape, id).await?
    {
        return Ok(known);
    }
    let parts = shape.split_key(text);
    if parts.len() != shape.key.len() {
        return Err(invalid(shape, text));
    }
    let row = row(client, shapes, table, &parts).await.map_err(|error| match error {
        ReadError::Rows { source, .. } if is_data_exception(&source) => invalid(shape, text),
        error => error.into(),
    })?;
    match (row, id) {
        // As the table has it: `007` finds the row with the number 7.
        (Some(row), _) => Ok(RecordKey::derived(shape, shape.key_parts(&row))),
        (None, Some(id)) => Err(unknown(shape, id)),
        // The row may have been deleted: its documents are to go.
        (None, None) => Ok(RecordKey::derived(shape, parts)),
    }
}

/// The key in the record's newest job that carries it.
async fn newest(
    client: &Client,
    shape: &TableShape,
    record_id: Uuid,
) -> Result<Option<RecordKey>, RecordError> {
    let columns: Vec<&str> = shape.key.iter().map(|column| column.name.as_str()).collect();
    let rows = client.query(NEWEST_KEY, &[&shape.name, &record_id.to_string(), &columns]).await;
    let rows = rows.map_err(crate::admin::pool::PoolError::Query)?;
    let parts: Result<Option<Vec<String>>, _> =
        rows.iter().map(|row| row.try_get("part")).collect();
    let parts = parts.map_err(crate::admin::pool::PoolError::Query)?;
    let complete = parts.filter(|parts| !parts.is_empty() && parts.len() == columns.len());
    Ok(complete.map(|parts| RecordKey { record_id, ..RecordKey::derived(shape, parts) }))
}

/// The row with this key, as it is now.
async fn row(
    client: &Arc<Client>,
    shapes: &Shapes,
    table: TableId,
    parts: &[String],
) -> Result<Option<Row>, ReadError> {
    let mut reader = RowReader::new(Arc::clone(client), shapes.clone());
    let mut reads = reader.begin().await?;
    let found = reads.by_key(table, &[parts.to_vec()]).await?;
    reads.commit().await?;
    Ok(found.into_iter().next().map(|found| found.row))
}

/// SQLSTATE class 22: the text is no value of the key's type.
fn is_data_exception(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("22"))
}

fn unknown(shape: &TableShape, record_id: Uuid) -> RecordError {
    RecordError::UnknownKey { table: shape.name.clone(), record_id }
}

fn invalid(shape: &TableShape, key: &str) -> RecordError {
    let expected = match shape.key.as_slice() {
        [only] => format!("a value of {} as {}", only.name, only.type_name),
        several => {
            let columns: Vec<&str> = several.iter().map(|column| column.name.as_str()).collect();
            format!(
                r"the values of {} with | between them and \ before a | in one",
                columns.join(", ")
            )
        }
    };
    RecordError::InvalidKey { table: shape.name.clone(), key: key.to_owned(), expected }
}
