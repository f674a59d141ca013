//! Chunks of the first load and of operations: rows that are all sent under one version.

use smallvec::smallvec;

use super::execute::{embed, needs_of_row};
use super::plan::{Content, DocumentPlan, DocumentStep};
use super::read::KeyedRow;
use super::{BatchOutput, Renderer};
use crate::ack::batch::JobKey;
use crate::change::{Lsn, TableId};
use crate::engine::document::build;
use crate::engine::document::id::{DocumentId, version_below};
use crate::engine::feed::FeedError;
use crate::engine::feed::action::Action;
use crate::storage::queue::record_id::document_id;

/// Rows of one chunk.
const ROWS_MAX: i64 = 500;

impl Renderer {
    /// The next rows after a key. The rows that their documents embed are cached, and every
    /// document counts as read ahead.
    pub(in crate::engine::feed) async fn read_chunk(
        &mut self,
        table: TableId,
        after: Option<&[String]>,
    ) -> Result<Vec<KeyedRow>, FeedError> {
        self.cache.clear();
        let mut reads = self.reader.begin().await?;
        let snapshot_lsn = reads.snapshot_lsn();
        let found = reads.after(table, after, ROWS_MAX).await?;
        let mut needs = Vec::new();
        for row in &found {
            needs_of_row(&self.definition, table, &row.row, &mut needs);
        }
        embed(&mut reads, &self.definition, &mut self.cache, &needs).await?;
        reads.commit().await?;
        self.stored.raise(snapshot_lsn).await?;
        self.ahead.note_all(snapshot_lsn);
        Ok(found)
    }

    /// Sends the documents of a chunk, under the version just below `moment`.
    pub(in crate::engine::feed) async fn send_chunk(
        &mut self,
        output: BatchOutput<'_>,
        table: TableId,
        rows: &[KeyedRow],
        moment: Lsn,
    ) -> Result<(), FeedError> {
        let sources = self.definition.sources_of(table);
        for (number, row) in (0_u16..).zip(rows) {
            for &source in &sources {
                let Some(version) = version_below(moment, self.base(source)) else { continue };
                if build::included(self.definition.source(source), &row.row) {
                    let jobs = smallvec![output.pending.reference(JobKey::Loaded(number))];
                    self.send_row(output, source, row, version, jobs).await?;
                }
            }
        }
        Ok(())
    }

    /// Renders the documents of the rows with these keys from the rows as they are now, under the
    /// version just below `moment`. A row that is not there, or that a source does not include, has
    /// its document deleted.
    pub(in crate::engine::feed) async fn send_rows(
        &mut self,
        output: BatchOutput<'_>,
        table: TableId,
        keys: Vec<Vec<String>>,
        moment: Lsn,
    ) -> Result<(), FeedError> {
        let sources = self.definition.sources_of(table);
        let mut plan = DocumentPlan::default();
        for (number, key) in (0_u16..).zip(keys) {
            for &source in &sources {
                // Below its base an index has a newer state.
                let Some(version) = version_below(moment, self.base(source)) else { continue };
                plan.touch(DocumentStep {
                    document: self.definition.document(source, &document_id(&key)),
                    source,
                    table,
                    content: Content::Read(key.clone()),
                    version,
                    jobs: smallvec![output.pending.reference(JobKey::Loaded(number))],
                    unchanged: false,
                });
            }
        }
        self.execute(output, &[], plan).await
    }

    /// Deletes documents that no row can have, under the version just below `moment`. They are the
    /// rows of the batch from `first` on.
    pub(in crate::engine::feed) async fn delete_orphans(
        &mut self,
        output: BatchOutput<'_>,
        first: usize,
        orphans: Vec<DocumentId>,
        moment: Lsn,
    ) -> Result<(), FeedError> {
        for (number, document) in (first..).zip(orphans) {
            let Ok(number) = u16::try_from(number) else { continue };
            let base = self.bases[usize::from(document.index.0)];
            let Some(version) = version_below(moment, base) else { continue };
            let jobs = smallvec![output.pending.reference(JobKey::Loaded(number))];
            output.emitter.send(Action::new(document, None, version, jobs)).await?;
        }
        Ok(())
    }

    /// The server's insert LSN now.
    pub(in crate::engine::feed) async fn current_lsn(&mut self) -> Result<Lsn, FeedError> {
        let reads = self.reader.begin().await?;
        let lsn = reads.snapshot_lsn();
        reads.commit().await?;
        Ok(lsn)
    }

    /// Whether a snapshot taken now shows every transaction up to this one as ended.
    pub(in crate::engine::feed) async fn all_ended_up_to(
        &mut self,
        xid: u64,
    ) -> Result<bool, FeedError> {
        let reads = self.reader.begin().await?;
        let ended = reads.snapshot().xmin() > xid;
        reads.commit().await?;
        Ok(ended)
    }
}
