//! TRUNCATE: a barrier, then every document of the table is looked at.

use std::sync::Arc;

use smallvec::smallvec;

use super::plan::{Content, Plan, Step};
use crate::ack::batch::PendingBatch;
use crate::engine::feed::{Feed, FeedError, Work};

impl Feed {
    /// Waits for all that precedes it, lists the table's documents, and renders each by a read:
    /// gone means deleted under the TRUNCATE's version.
    pub(in crate::engine::feed) async fn truncated(
        &mut self,
        pending: &Arc<PendingBatch>,
        work: &Work,
    ) -> Result<(), FeedError> {
        let table = work.change.table;
        self.cache.forget_table(table);
        let shape = self.shapes.of(table).clone();
        self.emitter.barrier().await;
        for source in self.definition.sources_of(table) {
            let Some(version) = self.version(source, work.change.position) else { continue };
            let filter = self.definition.source(source).filter.clone();
            let mut pages = self.emitter.enumerate(source.index, filter).await?;
            while let Some(page) = pages.recv().await {
                let mut plan = Plan::default();
                for id in page {
                    let Some(key) = self.definition.key_of(source, &id) else { continue };
                    plan.touch(Step {
                        document: self.definition.document(source, key),
                        source,
                        table,
                        content: Content::Read(shape.split_key(key)),
                        version,
                        jobs: smallvec![pending.reference(work.job)],
                    });
                }
                self.carry_out(&[], plan).await?;
            }
        }
        self.rewrite_all(pending, table, (work.change.position, work.job)).await
    }
}
