//! From the changes of a batch to steps on documents: the same for every source.

use smallvec::smallvec;

use super::fanout::Fanouts;
use super::plan::{Content, DocumentPlan, DocumentStep};
use super::rewrite::FanoutCause;
use super::{BatchOutput, Renderer, RowsFrom};
use crate::change::{Change, Operation, Row};
use crate::engine::document::route;
use crate::engine::document::route::{AffectedDocument, Effect};
use crate::engine::feed::{FeedError, JobChange};

impl Renderer {
    /// Renders changes in order. A TRUNCATE ends a plan: what precedes it is sent first.
    pub(in crate::engine::feed) async fn render(
        &mut self,
        output: BatchOutput<'_>,
        changes: &[JobChange],
        rows: RowsFrom,
    ) -> Result<(), FeedError> {
        let is_truncate = |job: &JobChange| job.change.operation == Operation::Truncate;
        let mut rest = changes;
        while !rest.is_empty() {
            let end = rest.iter().position(is_truncate).unwrap_or(rest.len());
            let (before, from) = rest.split_at(end);
            if !before.is_empty() {
                self.rows_changed(output, before, rows).await?;
            }
            let Some((truncate, after)) = from.split_first() else { break };
            self.truncated(output, truncate).await?;
            rest = after;
        }
        Ok(())
    }

    async fn rows_changed(
        &mut self,
        output: BatchOutput<'_>,
        changes: &[JobChange],
        rows: RowsFrom,
    ) -> Result<(), FeedError> {
        let mut plan = DocumentPlan::with_capacity(changes.len());
        let mut fanouts = Fanouts::default();
        for (number, JobChange { change, job }) in changes.iter().enumerate() {
            if rows == RowsFrom::Stream {
                self.ahead.passed(change.position.commit_lsn);
            }
            for affected in route::documents(&self.definition, change, &self.shapes) {
                let Some(version) = self.version(affected.source, change.position) else {
                    continue;
                };
                let must_read = rows == RowsFrom::Tables || self.must_read(change, &affected);
                let content = match affected.effect {
                    _ if must_read => {
                        Content::Read(self.shapes.of(change.table).key_parts(affected.row))
                    }
                    Effect::Index => Content::Image(number),
                    Effect::Delete => Content::Gone,
                };
                let unchanged = matches!(content, Content::Image(_))
                    && route::is_unchanged(&self.definition, affected.source, change);
                plan.touch(DocumentStep {
                    document: affected.document,
                    source: affected.source,
                    table: change.table,
                    content,
                    version,
                    jobs: smallvec![output.pending.reference(*job)],
                    unchanged,
                });
            }
            self.apply_to_cache(change);
            // Of an inserted row too: foreign keys can be deferred, and replicas ignore them.
            for (dependent, row) in route::dependents(&self.definition, change, &self.shapes) {
                let key = self.shapes.of(change.table).key_text(row);
                let cause = FanoutCause { position: change.position, job: *job };
                fanouts.add(change.table, dependent, key, cause);
            }
        }
        self.execute(output, changes, plan).await?;
        self.fan_out(output, fanouts).await
    }

    /// Whether the image in the stream does not suffice to render a document.
    fn must_read(&self, change: &Change, affected: &AffectedDocument<'_>) -> bool {
        let key_may_be_reused =
            self.shapes.of(change.table).key_deferrable && affected.effect == Effect::Delete;
        change.incomplete
            || key_may_be_reused
            || self.ahead.covers(&affected.document, change.position.commit_lsn)
    }

    /// Applies a change to the cached rows that documents embed.
    fn apply_to_cache(&mut self, change: &Change) {
        if !self.definition.is_embedded(change.table) {
            return;
        }
        let shape = self.shapes.of(change.table);
        let key = |row: &Option<Row>| {
            row.as_ref()
                .filter(|row| row.get(&shape.key[0].name).is_some())
                .map(|row| shape.key_text(row))
        };
        let old = key(&change.old);
        let new = key(&change.new);
        let lsn = change.position.commit_lsn;
        if let Some(old) = &old
            && new.as_ref() != Some(old)
        {
            // Another row may have taken over a deferrable key: only a read can tell.
            if shape.key_deferrable {
                self.cache.forget(change.table, old);
            } else {
                self.cache.apply(change.table, old, None, lsn);
            }
        }
        if let (Some(new), Some(row)) = (new, &change.new) {
            if change.incomplete {
                self.cache.forget(change.table, &new);
            } else {
                self.cache.apply(change.table, &new, Some(row), lsn);
            }
        }
    }
}
