//! From changes to steps on documents: the same for every feed.

use std::sync::Arc;

use smallvec::smallvec;
use tokio::time::Instant;

use super::fanout::Fanouts;
use super::plan::{Content, Plan, Step};
use crate::ack::batch::PendingBatch;
use crate::change::{Change, Operation, Row};
use crate::engine::document::route;
use crate::engine::document::route::{AffectedDocument, Effect};
use crate::engine::feed::{Feed, FeedError, Work};
use crate::telemetry::metrics::Stage;
use crate::telemetry::trace;

impl Feed {
    /// Works through changes in order. `by_read` renders every document from its row as it is now.
    pub(in crate::engine::feed) async fn work(
        &mut self,
        pending: &Arc<PendingBatch>,
        works: Vec<Work>,
        by_read: bool,
    ) -> Result<(), FeedError> {
        let (began, span) = (Instant::now(), trace::stage(Stage::Render, pending.batch()));
        let mut start = 0;
        for end in 0..=works.len() {
            let truncate =
                works.get(end).is_none_or(|work| work.change.operation == Operation::Truncate);
            if !truncate {
                continue;
            }
            if start < end {
                self.rows_changed(pending, &works[start..end], by_read).await?;
            }
            if let Some(work) = works.get(end) {
                self.reader.delivered.note(work.change.xid);
                self.truncated(pending, work).await?;
            }
            start = end + 1;
        }
        drop(span);
        self.metrics.stage(Stage::Render, began.elapsed());
        Ok(())
    }

    async fn rows_changed(
        &mut self,
        pending: &Arc<PendingBatch>,
        works: &[Work],
        by_read: bool,
    ) -> Result<(), FeedError> {
        let mut plan = Plan::default();
        let mut fanouts = Fanouts::default();
        let definition = Arc::clone(&self.definition);
        for (number, work) in works.iter().enumerate() {
            let change = &work.change;
            self.reader.delivered.note(change.xid);
            if !by_read {
                self.ahead.passed(change.position.commit_lsn);
            }
            for touched in route::documents(&definition, change, &self.shapes) {
                self.plan_step((pending, &mut plan), (number, work), touched, by_read);
            }
            self.keep_cache_right(change);
            let shape = self.shapes.of(change.table);
            // Of an inserted row too: foreign keys can be deferred, and replicas ignore them.
            for (dependent, row) in route::dependents(&definition, change, &self.shapes) {
                let key = shape.key_text(row);
                fanouts.add(change.table, dependent, key, (change.position, work.job));
            }
        }
        self.carry_out(works, plan).await?;
        self.fan_out(pending, fanouts).await
    }

    fn plan_step(
        &mut self,
        (pending, plan): (&Arc<PendingBatch>, &mut Plan),
        (number, work): (usize, &Work),
        touched: AffectedDocument,
        by_read: bool,
    ) {
        let change = &work.change;
        let Some(version) = self.version(touched.source, change.position) else { return };
        let shape = self.shapes.of(change.table);
        let moved = shape.key_deferrable && touched.effect == Effect::Delete;
        let read = by_read
            || change.incomplete
            || moved
            || self.ahead.covers(&touched.document, change.position.commit_lsn);
        let content = match touched.effect {
            _ if read => Content::Read(touched.key),
            Effect::Index => Content::Image(number),
            Effect::Delete => Content::Gone,
        };
        plan.touch(Step {
            document: touched.document,
            source: touched.source,
            table: change.table,
            content,
            version,
            jobs: smallvec![pending.reference(work.job)],
        });
    }

    /// Lets the stream change the rows that documents embed.
    fn keep_cache_right(&mut self, change: &Change) {
        if !self.definition.is_embedded(change.table) {
            return;
        }
        let shape = self.shapes.of(change.table);
        let key = |row: &Option<Row>| {
            row.as_ref()
                .filter(|row| row.get(&shape.key[0].name).is_some())
                .map(|row| shape.key_text(row))
        };
        let (old, new) = (key(&change.old), key(&change.new));
        let lsn = change.position.commit_lsn;
        if let Some(old) = &old
            && (new.as_ref() != Some(old))
        {
            // A deferrable key may be alive again under another row: ask the table.
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
