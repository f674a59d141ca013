//! The documents that rows should have, read and built beside the feed, to be compared.
//!
//! Not here: what is sent (`chunk`, `execute`).

use std::collections::HashSet;
use std::sync::Arc;

use super::cache::RowCache;
use super::execute::{embed, needs_of_row};
use super::read::{KeyedRow, ReadError, RowReader};
use crate::change::TableId;
use crate::engine::document::build;
use crate::engine::document::build::Builder;
use crate::engine::document::definition::{Definition, SourceId};
use crate::engine::document::route;
use crate::engine::document::shape::Shapes;
use crate::storage::queue::record_id::document_id;

/// A document of a row, as it should be.
#[derive(Debug)]
pub struct WantedDocument {
    pub source: SourceId,
    /// The key of its row; `None` where no row can have such a document.
    pub key: Option<Vec<String>>,
    /// Elasticsearch's `_id`.
    pub id: Arc<str>,
    pub body: WantedBody,
}

/// What a document should be.
#[derive(Debug, PartialEq, Eq)]
pub enum WantedBody {
    /// There should be none.
    Absent,
    /// JSON.
    Json(Vec<u8>),
    /// The row is too large to have one.
    Unknown,
}

/// Documents of rows, and the last key read.
pub struct WantedChunk {
    pub documents: Vec<WantedDocument>,
    /// `None` where there was no further row.
    pub last_key: Option<Vec<String>>,
    pub row_count: usize,
}

/// Reads rows, and builds their documents.
pub struct WantedDocuments {
    definition: Arc<Definition>,
    shapes: Shapes,
    reader: RowReader,
    builder: Builder,
}

impl WantedDocuments {
    /// Reads by `reader`, which has no other user.
    #[must_use]
    pub fn new(definition: Arc<Definition>, shapes: Shapes, reader: RowReader) -> Self {
        Self { definition, shapes, reader, builder: Builder::default() }
    }

    /// The documents of the next rows after a key.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn after(
        &mut self,
        table: TableId,
        after: Option<&[String]>,
        limit: i64,
    ) -> Result<WantedChunk, ReadError> {
        let mut cache = RowCache::default();
        let mut reads = self.reader.begin().await?;
        let rows = reads.after(table, after, limit).await?;
        embed(&mut reads, &self.definition, &mut cache, &needs(&self.definition, table, &rows))
            .await?;
        reads.commit().await?;
        let shape = self.shapes.of(table);
        let last_key = rows.last().map(|row| shape.split_key(&row.key));
        let row_count = rows.len();
        Ok(WantedChunk { documents: self.build(table, &rows, &cache), last_key, row_count })
    }

    /// The documents of the rows with these keys; a row that is not there should have none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn of_keys(
        &mut self,
        table: TableId,
        keys: &[Vec<String>],
    ) -> Result<Vec<WantedDocument>, ReadError> {
        let mut cache = RowCache::default();
        let mut reads = self.reader.begin().await?;
        let rows = reads.by_key(table, keys).await?;
        embed(&mut reads, &self.definition, &mut cache, &needs(&self.definition, table, &rows))
            .await?;
        reads.commit().await?;
        let found: HashSet<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let mut documents = self.build(table, &rows, &cache);
        for key in keys {
            let text = document_id(key);
            if found.contains(text.as_str()) {
                continue;
            }
            for source in self.definition.sources_of(table) {
                let id = self.definition.document(source, &text).id;
                documents.push(WantedDocument {
                    source,
                    key: Some(key.clone()),
                    id,
                    body: WantedBody::Absent,
                });
            }
        }
        Ok(documents)
    }

    fn build(
        &mut self,
        table: TableId,
        rows: &[KeyedRow],
        cache: &RowCache,
    ) -> Vec<WantedDocument> {
        let sources = self.definition.sources_of(table);
        let mut documents = Vec::with_capacity(rows.len() * sources.len());
        for KeyedRow { key, row } in rows {
            for &source in &sources {
                let body = if !build::included(self.definition.source(source), row) {
                    WantedBody::Absent
                } else if row.cut().is_some() {
                    WantedBody::Unknown
                } else {
                    let mut json = Vec::with_capacity(row.json().len() + 512);
                    self.builder.build(&self.definition, source, row, cache, &mut json);
                    WantedBody::Json(json)
                };
                let id = self.definition.document(source, key).id;
                let key = Some(self.shapes.of(table).split_key(key));
                documents.push(WantedDocument { source, key, id, body });
            }
        }
        documents
    }
}

/// The rows that the documents of these rows embed.
fn needs(definition: &Definition, table: TableId, rows: &[KeyedRow]) -> Vec<route::RequiredRow> {
    let mut needs = Vec::new();
    for row in rows {
        needs_of_row(definition, table, &row.row, &mut needs);
    }
    needs
}
