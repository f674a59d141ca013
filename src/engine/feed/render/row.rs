//! One row as it is now, and the documents that it should have, for comparison.
//!
//! The reads and the rendering are those of the feed. Nothing is sent and no version is given, so
//! the snapshot need not show what the stream has delivered.
//!
//! Not here: what Elasticsearch has (`sink`).

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::cache::RowCache;
use super::execute::{embed, needs_of_row};
use super::read::{ReadError, RowReader};
use crate::change::{Row, TableId};
use crate::engine::document::build;
use crate::engine::document::build::Builder;
use crate::engine::document::definition::Definition;
use crate::engine::document::id::DocumentId;
use crate::engine::document::plain;
use crate::engine::document::shape::Shapes;

/// A person waits for the answer.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// One row, and its documents.
#[derive(Debug)]
pub struct RenderedRow {
    /// `None` where there is no such row.
    pub row: Option<Row>,
    /// The document of every source of the table; `None` where there should be none. No documents
    /// where the row is larger than a row may be.
    pub documents: Vec<(DocumentId, Option<Vec<u8>>)>,
}

/// A reader for [`render_row`], on a session of its own. Large values of rows with more than
/// `row_bytes_max` of text stay at the server.
#[must_use]
pub fn row_reader(client: Arc<Client>, shapes: Shapes, row_bytes_max: usize) -> RowReader {
    let mut reader = RowReader::new(client, shapes);
    reader.limit_lock_waits(LOCK_PATIENCE);
    reader.limit_rows(row_bytes_max);
    reader
}

/// Reads the row with this key and renders its documents.
///
/// # Errors
/// [`ReadError`].
pub async fn render_row(
    mut reader: RowReader,
    definition: &Definition,
    table: TableId,
    key: &[String],
) -> Result<RenderedRow, ReadError> {
    let text = crate::storage::queue::record_id::document_id(key);
    let mut reads = reader.begin().await?;
    let found = reads.by_key(table, &[key.to_vec()]).await?;
    let row = found.into_iter().next().map(|found| found.row);
    if row.as_ref().is_some_and(|row| row.cut().is_some()) {
        reads.commit().await?;
        return Ok(RenderedRow { row, documents: Vec::new() });
    }
    let sources = definition.sources_of(table);
    let mut cache = RowCache::default();
    let mut builder = Builder::default();
    let mut needs = Vec::new();
    if let Some(row) = &row {
        needs_of_row(definition, table, row, &mut needs);
    }
    embed(&mut reads, definition, &mut cache, &needs).await?;
    reads.commit().await?;
    let mut document = |source| {
        let row = row.as_ref().filter(|row| build::included(definition.source(source), row))?;
        let mut json = Vec::new();
        builder.build(definition, source, row, &cache, &mut json);
        Some(plain::readable(&json).unwrap_or(json))
    };
    let documents = sources
        .iter()
        .map(|source| (definition.document(*source, &text), document(*source)))
        .collect();
    Ok(RenderedRow { row, documents })
}
