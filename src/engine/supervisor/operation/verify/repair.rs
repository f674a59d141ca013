//! Renders anew what a verification has found, and looks whether it is right since.
//!
//! Rows are rendered as those of a backfill; a document that no row can have is deleted, under the
//! version just below a moment whose transactions have all ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::examine::DocumentSubject;
use super::{ROWS_MAX, TableVerification};
use crate::ack::batch::ChunkPurpose;
use crate::engine::document::definition::SourceId;
use crate::engine::document::id::{DocumentId, IndexId};
use crate::engine::feed::source::operation::OperationChunk;
use crate::engine::supervisor::operation::{CHUNKS_MAX, OperationFault};
use crate::storage::verification::NamedDocument;

impl TableVerification<'_> {
    /// Renders anew what is noted to be, and notes what is right since.
    pub(super) async fn repair(&mut self) -> Result<(), OperationFault> {
        if self.progress.walk.repairing.is_empty() {
            return Ok(());
        }
        self.operations.indices_open(self.begun.id, self.table).await?;
        let repairing = self.progress.walk.repairing.clone();
        let keys: BTreeSet<Vec<String>> =
            repairing.iter().filter_map(|document| document.key.clone()).collect();
        let keys: Vec<Vec<String>> = keys.into_iter().collect();
        let nameless = repairing.iter().filter(|document| document.key.is_none());
        let orphans: Vec<DocumentId> = nameless
            .filter_map(|document| {
                let index = self.source(document)?.index;
                Some(DocumentId::new(index, document.id.as_str().into()))
            })
            .collect();
        for chunk in keys.chunks(ROWS_MAX) {
            self.send(chunk.to_vec(), Vec::new()).await?;
        }
        for chunk in orphans.chunks(ROWS_MAX) {
            self.send(Vec::new(), chunk.to_vec()).await?;
        }
        self.operations.all_chunks_settled().await;
        let subjects = repairing.iter().filter_map(|document| {
            let source = self.source(document)?;
            let id = document.id.as_str().into();
            Some(DocumentSubject { source, id, key: document.key.clone() })
        });
        let differences = self.examiner.subjects(subjects.collect()).await?;
        let (left, _) = self.confirm(differences).await?;
        let left: Vec<NamedDocument> = left
            .into_iter()
            .map(|difference| {
                let DocumentSubject { source, id, key } = difference.subject;
                let index = self.index_name(source.index);
                NamedDocument { index, id: id.to_string(), key }
            })
            .collect();
        self.progress.repaired(&left);
        self.save(false).await
    }

    async fn send(
        &self,
        keys: Vec<Vec<String>>,
        orphans: Vec<DocumentId>,
    ) -> Result<(), OperationFault> {
        let moment = self.operations.settled_moment(self.begun.id).await?;
        let permit = Arc::clone(&self.operations.permits).acquire_owned().await;
        let chunk = OperationChunk {
            purpose: ChunkPurpose::Repair(self.begun.id),
            table: self.table,
            keys,
            orphans,
            moment,
            last_key: None,
            row_count: 0,
            permit: permit.expect("the duty never closes its own semaphore"),
        };
        if self.operations.parts.chunks.send(chunk).await.is_err() {
            std::future::pending::<()>().await; // the run ends
        }
        Ok(())
    }

    /// The source that a document belongs to; `None` if the definition has no such index any more.
    fn source(&self, document: &NamedDocument) -> Option<SourceId> {
        let of_index = |source: &&SourceId| self.index_name(source.index) == document.index;
        let is_own = |source: &&SourceId| {
            let definition = &self.operations.parts.definition;
            document.key.is_none() || definition.key_of(**source, &document.id).is_some()
        };
        self.sources.iter().filter(of_index).find(is_own).copied()
    }

    pub(super) fn index_name(&self, index: IndexId) -> String {
        self.operations.parts.definition.indices[usize::from(index.0)].name.clone()
    }
}

impl super::Operations {
    /// Returns once no chunk is on its way.
    pub(in crate::engine::supervisor::operation) async fn all_chunks_settled(&self) {
        let all = u32::try_from(CHUNKS_MAX).unwrap_or(u32::MAX);
        drop(self.permits.acquire_many(all).await);
    }
}
