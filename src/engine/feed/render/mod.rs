//! From changes to document actions: the plan of a batch, the reads that it needs, the bodies.
//!
//! Not here: where changes come from (`feed::source`), and what a document consists of
//! (`document`).

pub mod ahead;
pub mod cache;
pub mod changes;
pub mod chunk;
pub mod execute;
pub mod fanout;
pub mod plan;
pub mod query;
pub mod read;
pub mod rewrite;
pub mod row;
pub mod stored;
pub mod truncate;
pub mod visible;
pub mod wanted;

use std::sync::Arc;

use crate::ack::batch::PendingBatch;
use crate::ack::memory::{Memory, MemoryHold, MemoryPart};
use crate::change::{Lsn, Position};
use crate::engine::document::build::Builder;
use crate::engine::document::definition::{Definition, SourceId};
use crate::engine::document::id::{DocumentId, version};
use crate::engine::document::shape::Shapes;
use crate::engine::feed::FeedError;
use crate::engine::feed::emit::Emitter;
use ahead::ReadAhead;
use cache::RowCache;
use read::{ReadError, RowReader};
use stored::StoredReadAhead;
use visible::DeliveredXid;

/// Delivered transactions remembered before the reader checks which of them a snapshot shows.
const DELIVERED_MAX: usize = 4096;

/// What the documents of a batch are rendered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsFrom {
    /// The images that the stream delivered, where they are the newest that is known.
    Stream,
    /// The tables as they are now.
    Tables,
}

/// How the bodies of documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// As the rows have the values. Elasticsearch refuses a value that its parser does not take.
    Plain,
    /// Values that Elasticsearch's parser refuses become strings.
    ForParser,
}

/// The open batch, and where its actions go.
#[derive(Clone, Copy)]
pub struct BatchOutput<'a> {
    pub emitter: &'a Emitter,
    pub pending: &'a Arc<PendingBatch>,
    pub escaping: Escaping,
}

/// Renders documents from rows of the stream and of the tables.
pub struct Renderer {
    definition: Arc<Definition>,
    shapes: Shapes,
    /// The base LSN of versions, by index.
    bases: Vec<Lsn>,
    builder: Builder,
    /// The document that is being built; reused.
    scratch: Vec<u8>,
    reader: RowReader,
    cache: RowCache,
    ahead: ReadAhead,
    stored: StoredReadAhead,
    /// Rows of a fan-out that are read at once.
    chunk_rows: i64,
    holds: RendererHolds,
}

/// Counts what the renderer keeps between batches.
struct RendererHolds {
    cache: MemoryHold,
    ahead: MemoryHold,
}

impl RendererHolds {
    fn of(memory: &Memory) -> Self {
        Self {
            cache: memory.hold(MemoryPart::Cache, 0),
            ahead: memory.hold(MemoryPart::ReadAhead, 0),
        }
    }
}

impl Renderer {
    /// `bases` are the base LSNs of versions, by index; `chunk_rows` are the rows of a fan-out that
    /// are read at once.
    #[must_use]
    pub fn new(
        definition: Arc<Definition>,
        shapes: Shapes,
        bases: Vec<Lsn>,
        reader: RowReader,
        stored: StoredReadAhead,
        chunk_rows: usize,
    ) -> Self {
        Self {
            definition,
            shapes,
            bases,
            builder: Builder::default(),
            scratch: Vec::new(),
            reader,
            cache: RowCache::default(),
            ahead: ReadAhead::starting_at(stored.lsn()),
            stored,
            chunk_rows: i64::try_from(chunk_rows).unwrap_or(i64::MAX),
            holds: RendererHolds::of(&Memory::default()),
        }
    }

    /// Counts there what it keeps between batches.
    pub fn report_memory(&mut self, memory: &Memory) {
        self.holds = RendererHolds::of(memory);
        self.count_kept();
    }

    /// What documents consist of.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The shapes of the configured tables.
    #[must_use]
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// Notes a transaction whose changes are rendered next: every snapshot that is read for them
    /// must show it.
    pub fn note_delivered(&mut self, xid: DeliveredXid) {
        self.reader.delivered(xid);
    }

    /// Forgets every cached row. The cache is valid only while the feed sees every change.
    pub fn forget_rows(&mut self) {
        self.cache.clear();
    }

    /// Counts what is kept now.
    fn count_kept(&mut self) {
        self.holds.cache.set(self.cache.bytes());
        self.holds.ahead.set(self.ahead.bytes());
    }

    /// Bounds what is remembered between two batches of the stream.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn trim(&mut self) -> Result<(), ReadError> {
        self.cache.trim();
        self.count_kept();
        if self.reader.delivered_count() > DELIVERED_MAX {
            self.reader.prune().await?;
        }
        Ok(())
    }

    /// `None` below the index's base: Elasticsearch has a newer state.
    fn version(&self, source: SourceId, position: Position) -> Option<u64> {
        version(position, self.base(source))
    }

    fn base(&self, source: SourceId) -> Lsn {
        self.bases[usize::from(source.index.0)]
    }

    /// Remembers, and stores before anything is sent, that these documents are rendered from rows
    /// that may be ahead of the stream.
    async fn rendered_by_read(
        &mut self,
        documents: &[DocumentId],
        snapshot_lsn: Lsn,
    ) -> Result<(), FeedError> {
        if documents.is_empty() {
            return Ok(());
        }
        self.stored.raise(snapshot_lsn).await?;
        for document in documents {
            self.ahead.note(document, snapshot_lsn);
        }
        self.count_kept();
        Ok(())
    }
}
