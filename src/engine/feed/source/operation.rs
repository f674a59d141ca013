//! Chunks of operations, between the batches of the other sources: rows whose documents are rendered anew.
//!
//! An operation has its keys read on a session of its own, so that a slow condition holds up nothing.
//! Here the rows with these keys are read again, in a snapshot that shows what the stream has
//! delivered, and are sent under the version just below W. Every transaction that ran at W has
//! ended, so the read shows all that committed before W, and what commits after W has a higher
//! version. A row that is not there any more has its documents deleted.
//!
//! Not here: which rows, and how fast (`engine::supervisor::operation`).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::ack::batch::{ChunkPurpose, LoadedChunk, LoadedRow};
use crate::change::{Lsn, TableId};
use crate::engine::document::id::DocumentId;
use crate::engine::document::shape::TableShape;
use crate::engine::feed::emit::NewBatch;
use crate::engine::feed::render::{BatchOutput, Escaping, RowsFrom};
use crate::engine::feed::{FeedCore, FeedError};
use crate::storage::queue::record_id::{derived_record_id, document_id};
use crate::telemetry::trace;

/// Rows whose documents are rendered anew.
#[derive(Debug)]
pub struct OperationChunk {
    /// The operation, as the settlement knows it.
    pub purpose: ChunkPurpose,
    pub table: TableId,
    /// At most 65,536.
    pub keys: Vec<Vec<String>>,
    /// Documents that no row can have, which are deleted.
    pub orphans: Vec<DocumentId>,
    /// W.
    pub moment: Lsn,
    /// The last key, as a JSON array; `None` when the operation is finished.
    pub last_key: Option<String>,
    /// Rows of the operation up to the end of the chunk.
    pub row_count: u64,
    /// Returned once the chunk has settled.
    pub permit: OwnedSemaphorePermit,
}

/// The chunks of the operation that goes on.
pub struct OperationChunks(mpsc::Receiver<OperationChunk>);

impl OperationChunks {
    /// The feed's end of the channel.
    #[must_use]
    pub fn new(chunks: mpsc::Receiver<OperationChunk>) -> Self {
        Self(chunks)
    }

    /// The next chunk, if there is one now.
    pub(super) fn try_next(&mut self) -> Option<OperationChunk> {
        self.0.try_recv().ok()
    }

    /// The next chunk. Never returns once no further one can come.
    pub(super) async fn next(&mut self) -> OperationChunk {
        match self.0.recv().await {
            Some(chunk) => chunk,
            None => std::future::pending().await,
        }
    }
}

/// Renders and sends one chunk. Beside another source than the stream, rows that are cached may have
/// changed.
pub(super) async fn send_chunk(
    core: &mut FeedCore,
    chunk: OperationChunk,
    beside: RowsFrom,
) -> Result<(), FeedError> {
    if beside == RowsFrom::Tables {
        core.renderer.forget_rows();
    }
    let OperationChunk { purpose, table, keys, orphans, moment, last_key, row_count, permit } =
        chunk;
    core.emitter.memory_room().await;
    let shape = core.renderer.shapes().of(table);
    let loaded = LoadedChunk {
        table: shape.label(),
        table_name: shape.name.clone(),
        last_key,
        row_count,
        rows: rows_of(shape, &keys, &orphans),
        purpose,
        refused: Vec::new(),
        parked: Vec::new(),
    };
    let span = trace::batch("backfill", keys.len());
    let pending = core.emitter.open(NewBatch {
        loaded: Some(loaded),
        operation: Some(permit),
        span,
        ..NewBatch::without_jobs()
    });
    let escaping = Escaping::ForParser;
    let output = BatchOutput { emitter: &core.emitter, pending: &pending, escaping };
    let first_orphan = keys.len();
    core.renderer.send_rows(output, table, keys, moment).await?;
    core.renderer.delete_orphans(output, first_orphan, orphans, moment).await?;
    Ok(core.emitter.close(pending).await?)
}

/// Rows with these keys, and rows that there are not, by the ids of their documents.
fn rows_of(shape: &TableShape, keys: &[Vec<String>], orphans: &[DocumentId]) -> Arc<[LoadedRow]> {
    let rows = keys.iter().map(|key| row_of(shape, key));
    let none = orphans.iter().map(|document| LoadedRow {
        record_id: derived_record_id(&document.id),
        key: "{}".to_owned(),
    });
    rows.chain(none).collect()
}

/// The row with this key as a job names it.
fn row_of(shape: &TableShape, key: &[String]) -> LoadedRow {
    if let ([only], true) = (key, shape.has_uuid_key())
        && let Ok(record_id) = only.parse()
    {
        return LoadedRow { record_id, key: "{}".to_owned() };
    }
    let columns = shape.key.iter().map(|column| column.name.clone());
    let values = key.iter().map(|part| serde_json::Value::from(part.as_str()));
    let key_object: serde_json::Map<_, _> = columns.zip(values).collect();
    LoadedRow {
        record_id: derived_record_id(&document_id(key)),
        key: serde_json::json!({ "old": null, "new": key_object }).to_string(),
    }
}
