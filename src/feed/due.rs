//! Jobs that no cursor will meet: retries that are due, what an operator made `pending`, and rows
//! that something else inserted.
//!
//! They go through the one feed, between its batches: rendered by reads, each under its own
//! version, so what is newer in Elasticsearch stays. A row without a place in the stream gets one
//! just behind the last change worked on ([`Place`]).
//!
//! Not here: finding them (`queue::claim`).

use std::sync::Arc;

use super::{Feed, FeedError};
use crate::change::{Change, Columns, Lsn, Operation, Position, Row};
use crate::queue::claim::Job;

/// Batches of one look, so that the stream is not kept waiting; the next look has the rest.
const BATCHES_MAX: usize = 4;

/// The place of jobs that have none: behind the last change worked on, before any later one, and a
/// little further each time.
///
/// The read behind such a job shows the whole transaction of that change, so the highest ordinal
/// is its due; every later change commits in a record behind that transaction's commit record,
/// which is [`COMMIT_BYTES_MIN`] long at least. So documents that somebody wrote by hand, which
/// raises their version by one, are put right by a re-sync, and again by the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    behind: Position,
    steps: u64,
}

/// A commit record: header 24, data header 2, the commit's time 8 bytes, aligned to 8
/// (`access/xlogrecord.h`, `xl_xact_commit`).
const COMMIT_BYTES_MIN: u64 = 40;
/// LSNs of records are multiples of this.
const ALIGNMENT: u64 = 8;

impl Place {
    /// A step further, or behind a later change.
    pub fn next(&mut self, fed: Position) {
        let steps_max = COMMIT_BYTES_MIN / ALIGNMENT - 1;
        let steps = if self.behind == fed { (self.steps + 1).min(steps_max) } else { 0 };
        *self = Self { behind: fed, steps };
    }

    /// Where such a job stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            commit_lsn: Lsn(self.behind.commit_lsn.0 + self.steps * ALIGNMENT),
            ordinal: self.behind.ordinal.max(u64::from(u16::MAX)),
        }
    }
}

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
            if jobs.iter().any(|job| job.foreign) {
                self.place.next(self.fed);
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
            change.position = self.place.position();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::action::version;

    #[test]
    fn a_job_without_a_place_is_behind_the_last_change_and_before_the_next() {
        let at = |lsn, ordinal| Position { commit_lsn: Lsn(lsn), ordinal };
        let versions = |position| version(position, Lsn(0)).unwrap();
        let (fed, next) = (at(1000, 7), at(1000 + COMMIT_BYTES_MIN, 1));
        let mut place = Place::default();
        let mut last = versions(fed);
        for _ in 0..3 {
            place.next(fed);
            // Somebody's own write adds one.
            assert!(versions(place.position()) > last + 1);
            last = versions(place.position());
        }
        for _ in 0..9 {
            place.next(fed);
            assert!(versions(place.position()) < versions(next));
        }
        place.next(next);
        assert!(versions(place.position()) > versions(next));
    }
}
