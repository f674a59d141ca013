//! Jobs that no cursor will meet: retries that are due, what an operator made `pending`, and rows
//! that something else inserted.
//!
//! They go through the one feed, between its batches: rendered by reads, each under its own
//! version, so what is newer in Elasticsearch stays. A row without a place in the stream gets that
//! of the last change worked on: all changes up to it are in the read, and every later one has a
//! higher version.
//!
//! Not here: finding them (`queue::claim`).

use std::sync::Arc;

use super::{Feed, FeedError};
use crate::change::{Change, Columns, Operation, Position, Row};
use crate::queue::claim::Job;

/// Batches of one look, so that the stream is not kept waiting; the next look has the rest.
const BATCHES_MAX: usize = 4;

impl Feed {
    /// Works on what is due. `behind` is the table feed's cursor; `None` while live.
    pub(super) async fn take_due(&mut self, behind: Option<Position>) -> Result<(), FeedError> {
        for _ in 0..BATCHES_MAX {
            if self.stop.is_cancelled() || *self.halted.borrow() {
                return Ok(());
            }
            let jobs = self.claims.due(behind, self.claim_max).await?;
            if jobs.is_empty() {
                return Ok(());
            }
            self.table_batch(jobs).await?;
        }
        // Not all of it: look again soon.
        self.poke.notify_one();
        Ok(())
    }

    /// A job's change, with a place in the stream and with a key: that of `record_id` where
    /// `change_data` tells none, as after somebody's edit.
    pub(super) fn placed(&self, job: Job) -> Change {
        let mut change = job.change;
        if job.foreign {
            change.position = self.fed;
        }
        let shape = self.shapes.of(change.table);
        if self.names_a_row(&change) || !shape.has_uuid_key() {
            return change;
        }
        let key = Arc::new(Columns::new(vec![shape.key[0].name.clone()]));
        let text = serde_json::json!({ &shape.key[0].name: job.record_id.to_string() }).to_string();
        change.old = Row::parse(&text, Some(&key)).ok();
        change.new = None;
        change.operation = Operation::Update;
        change.incomplete = true;
        change
    }

    /// Whether it can be known which rows a change is about.
    pub(super) fn names_a_row(&self, change: &Change) -> bool {
        let shape = self.shapes.of(change.table);
        let has_key =
            |row: &Option<Row>| row.as_ref().is_some_and(|row| !shape.key_parts(row).is_empty());
        change.operation == Operation::Truncate || has_key(&change.old) || has_key(&change.new)
    }
}
