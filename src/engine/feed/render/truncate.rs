//! TRUNCATE: a barrier, then every document of the table is rendered by a read.

use smallvec::smallvec;

use super::plan::{Content, DocumentPlan, DocumentStep};
use super::rewrite::FanoutCause;
use super::{BatchOutput, Renderer};
use crate::engine::feed::emit::StageGone;
use crate::engine::feed::{FeedError, JobChange};
use crate::telemetry::waits::WaitName;

impl Renderer {
    /// Waits for all that precedes it, lists the table's documents, and renders each by a read:
    /// gone means deleted under the TRUNCATE's version.
    pub(super) async fn truncated(
        &mut self,
        output: BatchOutput<'_>,
        truncate: &JobChange,
    ) -> Result<(), FeedError> {
        let table = truncate.change.table;
        let position = truncate.change.position;
        self.cache.forget_table(table);
        let shape = self.shapes.of(table).clone();
        output.emitter.barrier().await;
        for source in self.definition.sources_of(table) {
            let Some(version) = self.version(source, position) else { continue };
            let filter = self.definition.source(source).filter.clone();
            let mut pages = output.emitter.enumerate(source.index, filter).await?;
            loop {
                // Without the empty page the sink has ended, and documents may be left.
                let page = output.emitter.waits().during(WaitName::Listing, pages.recv()).await;
                let page = match page.ok_or(StageGone("sink"))? {
                    Ok(page) if page.is_empty() => break,
                    Ok(page) => page,
                    Err(wait) => {
                        let settled = output.pending.reference(truncate.job).parked(&wait);
                        assert!(settled.is_none(), "the feed has a reference until it closes");
                        break;
                    }
                };
                let mut plan = DocumentPlan::default();
                for id in page {
                    let Some(key) = self.definition.key_of(source, &id) else { continue };
                    plan.touch(DocumentStep {
                        document: self.definition.document(source, key),
                        source,
                        table,
                        content: Content::Read(shape.split_key(key)),
                        version,
                        jobs: smallvec![output.pending.reference(truncate.job)],
                        unchanged: false,
                    });
                }
                self.execute(output, &[], plan).await?;
            }
        }
        self.rewrite_all(output, table, FanoutCause { position, job: truncate.job }).await
    }
}
