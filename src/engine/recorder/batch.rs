//! Cuts batches from captured changes. Pure.

use std::collections::VecDeque;

use tracing::Span;

use super::Recorded;
use crate::change::{Lsn, Position};
use crate::config::Limits;
use crate::engine::wal::Captured;

/// Collects what the stream captured and cuts batches from it.
///
/// Replayed changes, at or below the recorded position, are dropped on the way in: they are in
/// the table already. A batch may end in the middle of a transaction; its `end_lsn` is then that
/// of the last transaction which it completes.
pub struct BatchAssembler {
    recorded: Position,
    changes_max: usize,
    bytes_max: usize,
    waiting: VecDeque<Captured>,
    bytes: usize,
    changes: usize,
}

impl BatchAssembler {
    /// An empty batch after the change at `recorded`.
    #[must_use]
    pub fn new(recorded: Position, limits: &Limits) -> Self {
        Self {
            recorded,
            changes_max: limits.batch_changes_max,
            bytes_max: limits.batch_bytes_max,
            waiting: VecDeque::new(),
            bytes: 0,
            changes: 0,
        }
    }

    /// Adds what the stream captured.
    pub fn push(&mut self, chunk: Vec<Captured>) {
        for captured in chunk {
            if let Captured::Change(change) = &captured {
                if change.position <= self.recorded {
                    continue;
                }
                self.changes += 1;
                self.bytes += change.size();
            }
            self.waiting.push_back(captured);
        }
    }

    /// The position of the last change that was taken, or recorded before.
    #[must_use]
    pub fn recorded(&self) -> Position {
        self.recorded
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The bytes of the changes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the next batch has room for more than what waits.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.changes < self.changes_max && self.bytes < self.bytes_max
    }

    /// Cuts the next batch. One change may exceed the limit of bytes by itself.
    #[must_use]
    pub fn take(&mut self) -> Recorded {
        let mut batch = Recorded {
            hold: None,
            changes: Vec::with_capacity(self.changes.min(self.changes_max)),
            end_lsn: None,
            span: Span::none(),
            memory: None,
        };
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            if let Captured::Change(change) = next {
                let full = batch.changes.len() >= self.changes_max || bytes >= self.bytes_max;
                if full {
                    break;
                }
                bytes += change.size();
            }
            match self.waiting.pop_front() {
                Some(Captured::Change(change)) => batch.changes.push(change),
                Some(Captured::Commit { end_lsn, .. } | Captured::Idle { wal_end: end_lsn }) => {
                    batch.end_lsn = batch.end_lsn.max(Some(end_lsn)).filter(|lsn| *lsn > Lsn(0));
                }
                None => break,
            }
        }
        self.changes -= batch.changes.len();
        self.bytes -= bytes;
        if let Some(last) = batch.changes.last() {
            self.recorded = last.position;
        }
        batch
    }
}
