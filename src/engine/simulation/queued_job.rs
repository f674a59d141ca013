//! A row of the simulated queue, and what becomes of it.

use super::source::Subject;
use crate::change::Position;
use crate::storage::queue::status::Status;

/// Refused attempts after which a job is `failed`.
const ATTEMPTS_MAX: u32 = 3;
/// The wait after a refused attempt, in milliseconds.
const RETRY_AFTER: u64 = 3000;
/// A row of the queue.
#[derive(Clone, Debug)]
pub(super) struct QueuedJob {
    pub(super) id: i64,
    /// `None` where another program inserted it.
    pub(super) position: Option<Position>,
    pub(super) subject: Subject,
    pub(super) status: Status,
    pub(super) epoch: u64,
    pub(super) started_at: u64,
    pub(super) due_at: u64,
    pub(super) attempts: u32,
    /// The index that it waits for.
    pub(super) waits_for: Option<String>,
    /// It was completed, an attempt was refused, or it waits for an index or a fan-out.
    pub(super) has_fate: bool,
}

impl QueuedJob {
    /// Whether it waits for an index.
    pub(super) fn is_parked(&self) -> bool {
        self.waits_for.is_some()
    }

    pub(super) fn is_due(&self, now: u64) -> bool {
        self.status == Status::Pending && self.due_at <= now && self.waits_for.is_none()
    }

    /// It is over, or tried again: an attempt was refused, or an index takes no documents.
    pub(super) fn leave(&mut self, why: &NotDone, now: u64) {
        self.has_fate = true;
        match why {
            NotDone::Refused => {
                self.attempts += 1;
                self.due_at = now + RETRY_AFTER;
                let is_last = self.attempts >= ATTEMPTS_MAX;
                self.status = if is_last { Status::Failed } else { Status::Pending };
            }
            NotDone::Parked(index) => {
                self.status = Status::Pending;
                self.waits_for = Some(index.clone());
            }
        }
    }
}

/// Why a job is not completed.
#[derive(Clone, Debug)]
pub(super) enum NotDone {
    Refused,
    Parked(String),
}
