//! Jobs that the feed has claimed from the queue, and which it may claim.
//!
//! The bound beside the stream and the position of external jobs are the product's `FedPositions`
//! and `AssignedPosition`; the order of a pass over due jobs is a model of `feed::source::due`.

use std::collections::VecDeque;

use tracing::Span;

use super::index::INDICES;
use super::outside::Outside;
use super::queued_job::QueuedJob;
use super::render::BatchChange;
use crate::ack::batch::{CreatedBetween, JobKey};
use crate::ack::in_flight::{InFlight, InFlightGuard};
use crate::ack::job_set::JobSet;
use crate::change::Position;
use crate::engine::feed::control::FeedControl;
use crate::engine::feed::emit::NewBatch;
use crate::engine::feed::source::course::FedPositions;
use crate::engine::feed::source::external::AssignedPosition;

/// Jobs claimed at once.
const CLAIM_MAX: usize = 3;
/// Batches of one pass over the jobs that are due.
const DUE_BATCHES_MAX: u32 = 2;

/// A pass over the jobs that are due.
#[derive(Clone, Copy, Debug)]
struct DuePass {
    behind: Position,
    batches_left: u32,
}

/// Claimed jobs, and how far the sources have come.
pub(super) struct ClaimModel {
    in_flight: InFlight,
    pub(super) fed: FedPositions,
    assigned: AssignedPosition,
    due: Option<DuePass>,
    claimed: VecDeque<QueuedJob>,
    hold: Option<InFlightGuard>,
}

/// A batch of claimed jobs.
pub(super) struct ClaimedBatch {
    pub(super) new: NewBatch,
    pub(super) changes: Vec<BatchChange>,
}

impl ClaimModel {
    pub(super) fn new(in_flight: InFlight, recorded: Position) -> Self {
        Self {
            in_flight,
            fed: FedPositions::new(recorded),
            assigned: AssignedPosition::new(recorded),
            due: None,
            claimed: VecDeque::new(),
            hold: None,
        }
    }

    /// Claims the next jobs after a position; returns the position of the last one.
    pub(super) fn claim(
        &mut self,
        after: Position,
        up_to: Option<Position>,
        outside: &mut Outside,
    ) -> Option<Position> {
        let is_wanted = |at: Option<Position>| {
            at.is_some_and(|at| at > after && up_to.is_none_or(|last| at <= last))
        };
        let jobs = outside.queue.claim(outside.now, CLAIM_MAX, is_wanted);
        let last = jobs.last().and_then(|job| job.position);
        if let Some(last) = last {
            self.fed.note(last);
        }
        self.take_up(jobs, outside);
        last
    }

    /// Begins a pass over the jobs that are due at positions up to this one.
    pub(super) fn begin_due(&mut self, behind: Position) {
        self.due = Some(DuePass { behind, batches_left: DUE_BATCHES_MAX });
    }

    /// Takes a step of the pass over due jobs; false if there is no such pass.
    pub(super) fn take_due(&mut self, control: &FeedControl, outside: &mut Outside) -> bool {
        let Some(pass) = self.due.take() else { return false };
        if !control.may_begin() {
            return true;
        }
        if pass.batches_left == 0 {
            control.wake_again();
            return true;
        }
        let now = outside.now;
        let is_behind = |at: Option<Position>| at.is_some_and(|at| at <= pass.behind);
        let mut jobs = outside.queue.claim(now, CLAIM_MAX, is_behind);
        if jobs.is_empty() && self.can_assign_position(outside) {
            jobs = outside.queue.claim(now, CLAIM_MAX, |at| at.is_none());
        }
        if !jobs.is_empty() || release_parked(control, outside) {
            self.due = Some(DuePass { batches_left: pass.batches_left - 1, ..pass });
            self.take_up(jobs, outside);
        }
        true
    }

    fn can_assign_position(&mut self, outside: &mut Outside) -> bool {
        if !outside.queue.any_without_position(outside.now) {
            self.assigned.none_waits();
            return false;
        }
        // Sometimes a transaction from before is still open.
        let position = Position { commit_lsn: outside.source.insert_lsn, ordinal: 0 };
        let current = outside.rng.bool().then_some(position);
        self.assigned.assign(current, self.fed.last(), outside.instant())
    }

    fn take_up(&mut self, jobs: Vec<QueuedJob>, outside: &mut Outside) {
        if jobs.is_empty() {
            return;
        }
        let ids: Vec<i64> = jobs.iter().map(|job| job.id).collect();
        outside.note(|| format!("feed: claimed {ids:?}"));
        self.hold = Some(self.in_flight.hold(JobSet::Ids(ids)));
        self.claimed = VecDeque::from(jobs);
    }

    /// The next batch of claimed jobs; `None` once all have been rendered.
    pub(super) fn next_batch(&mut self, outside: &mut Outside) -> Option<ClaimedBatch> {
        if self.claimed.is_empty() {
            self.hold = None;
            return None;
        }
        let count = outside.rng.usize(1..=self.claimed.len());
        let assigned = self.assigned.position();
        let changes: Vec<BatchChange> = self
            .claimed
            .drain(..count)
            .map(|job| {
                let known = job.position.and_then(|at| outside.source.index_of(at));
                BatchChange {
                    state: known.map_or(0, state),
                    position: job.position.unwrap_or(assigned),
                    subject: job.subject,
                    is_delete: false,
                    job: JobKey::Id(job.id),
                }
            })
            .collect();
        let ids = changes.iter().map(|change| match change.job {
            JobKey::Id(id) => id,
            JobKey::At(_) | JobKey::Loaded(_) => unreachable!("claimed jobs have ids"),
        });
        let jobs = JobSet::Ids(ids.collect());
        let hold = self.in_flight.hold(jobs.clone());
        let new = NewBatch { jobs, hold: Some(hold), ..new_batch() };
        Some(ClaimedBatch { new, changes })
    }
}

/// Ends the wait of some jobs for the indices that take documents; false if there are none.
fn release_parked(control: &FeedControl, outside: &mut Outside) -> bool {
    let open = INDICES.into_iter().filter(|index| !control.is_closed(index));
    open.map(|index| outside.queue.release(index, CLAIM_MAX)).sum::<usize>() > 0
}

/// A batch without jobs yet.
pub(super) fn new_batch() -> NewBatch {
    NewBatch { span: Span::none(), created: CreatedBetween::default(), ..NewBatch::without_jobs() }
}

/// The number of the change at this place.
pub(super) fn state(at: usize) -> u32 {
    u32::try_from(at + 1).expect("few changes")
}
