//! A small queue table with its positions. Every function is one transaction. It asserts that each
//! change has exactly one job.

use crate::ack::batch::{BatchDescriptor, Failure, JobKey};
use crate::ack::in_flight::InFlightSnapshot;
use crate::ack::job_set::JobSet;
use crate::change::{Change, Lsn, Position};
use crate::storage::queue::status::Status;

use super::source::{SourceModel, Subject};

/// Refused attempts after which a job is `failed`.
const ATTEMPTS_MAX: u32 = 3;
/// The wait after a refused attempt, in milliseconds.
const RETRY_AFTER: u64 = 3000;
/// `processing` for longer than this is stuck, in milliseconds.
const STUCK_AFTER: u64 = 30_000;

/// A row of the queue.
#[derive(Clone, Debug)]
pub(super) struct QueuedJob {
    pub(super) id: i64,
    /// `None` where another program inserted it.
    pub(super) position: Option<Position>,
    pub(super) subject: Subject,
    pub(super) status: Status,
    epoch: u64,
    started_at: u64,
    due_at: u64,
    attempts: u32,
    /// It was completed, or an attempt was refused.
    pub(super) has_fate: bool,
}

/// What a settlement moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    pub(super) completed: u64,
    pub(super) failed: u64,
}

/// The table, and what is stored with it.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) jobs: Vec<QueuedJob>,
    /// The places in `jobs` of the changes' jobs: all of the first changes have one.
    pub(super) of_changes: Vec<usize>,
    pub(super) recorded: Position,
    pub(super) recorded_end: Lsn,
    pub(super) settled: Lsn,
    pub(super) read_ahead: Lsn,
    /// An operator's choice.
    pub(super) halted: bool,
    pub(super) epoch: u64,
    next_id: i64,
}

impl Queue {
    pub(super) fn new(start: Lsn) -> Self {
        Self {
            jobs: Vec::with_capacity(64),
            of_changes: Vec::with_capacity(64),
            recorded: Position::default(),
            recorded_end: start,
            settled: start,
            read_ahead: Lsn(0),
            halted: false,
            epoch: 0,
            next_id: 1,
        }
    }

    fn insert(&mut self, position: Option<Position>, subject: Subject, status: Status, now: u64) {
        let id = self.next_id;
        self.next_id += 1;
        self.jobs.push(QueuedJob {
            id,
            position,
            subject,
            status,
            epoch: self.epoch,
            started_at: now,
            due_at: 0,
            attempts: 0,
            has_fate: false,
        });
    }

    /// Writes the jobs of a batch and the position of the last of them.
    pub(super) fn record(
        &mut self,
        source: &SourceModel,
        changes: &[Change],
        status: Status,
        end_lsn: Option<Lsn>,
        now: u64,
    ) {
        for change in changes {
            let next = source.changes.get(self.of_changes.len());
            let expected = next.map(|next| next.position);
            assert_eq!(Some(change.position), expected, "each change has one job, in order");
            self.of_changes.push(self.jobs.len());
            let subject = next.map_or(Subject::Table, |next| next.subject);
            self.insert(Some(change.position), subject, status, now);
            self.recorded = change.position;
        }
        if !changes.is_empty() {
            self.recorded_end = end_lsn.unwrap_or(self.recorded_end).max(self.recorded_end);
        }
    }

    /// Another program inserts a job.
    pub(super) fn insert_external(&mut self, subject: Subject, now: u64) {
        self.insert(None, subject, Status::Pending, now);
    }

    /// A run of a new epoch begins.
    pub(super) fn begin_epoch(&mut self) {
        self.epoch += 1;
        let epoch = self.epoch;
        let orphans = self.jobs.iter_mut().filter(|job| job.status == Status::Processing);
        orphans.filter(|job| job.epoch != epoch).for_each(|job| job.status = Status::Pending);
    }

    pub(super) fn lowest_unfinished(&self) -> Option<Position> {
        let unfinished =
            |job: &&QueuedJob| matches!(job.status, Status::Pending | Status::Processing);
        self.jobs.iter().filter(unfinished).filter_map(|job| job.position).min()
    }

    /// Claims due jobs with these positions, the lowest first.
    pub(super) fn claim(
        &mut self,
        now: u64,
        limit: usize,
        is_wanted: impl Fn(Option<Position>) -> bool,
    ) -> Vec<QueuedJob> {
        let epoch = self.epoch;
        let is_due = |job: &&mut QueuedJob| {
            job.status == Status::Pending && job.due_at <= now && is_wanted(job.position)
        };
        let mut due: Vec<&mut QueuedJob> = self.jobs.iter_mut().filter(is_due).collect();
        due.sort_unstable_by_key(|job| (job.position, job.id));
        let claimed = due.into_iter().take(limit).map(|job| {
            job.status = Status::Processing;
            job.epoch = epoch;
            job.started_at = now;
            job.clone()
        });
        claimed.collect()
    }

    pub(super) fn any_without_position(&self, now: u64) -> bool {
        let is_due = |job: &QueuedJob| {
            job.status == Status::Pending && job.due_at <= now && job.position.is_none()
        };
        self.jobs.iter().any(is_due)
    }

    /// Gives every job of these batches its fate, and raises the settled position.
    pub(super) fn settle(
        &mut self,
        batches: &[(BatchDescriptor, Vec<Failure>)],
        position: Option<Lsn>,
        now: u64,
        mut completes: impl FnMut(&QueuedJob),
    ) -> Settled {
        let mut settled = Settled::default();
        let failures = batches.iter().flat_map(|(_, failures)| failures);
        for failure in failures {
            let is_it = |job: &&mut QueuedJob| match failure.job {
                JobKey::At(position) => job.position == Some(position),
                JobKey::Id(id) => job.id == id,
                JobKey::Loaded(_) => false,
            };
            let mut processing = self.jobs.iter_mut().filter(|j| j.status == Status::Processing);
            let Some(job) = processing.find(is_it) else { continue };
            job.attempts += 1;
            job.has_fate = true;
            job.due_at = now + RETRY_AFTER;
            let is_last = job.attempts >= ATTEMPTS_MAX;
            job.status = if is_last { Status::Failed } else { Status::Pending };
            settled.failed += u64::from(is_last);
        }
        for (descriptor, _) in batches {
            let is_in = |job: &&mut QueuedJob| match &descriptor.jobs {
                JobSet::Range { first, last } => {
                    job.position.is_some_and(|at| (*first..=*last).contains(&at))
                }
                JobSet::Ids(ids) => ids.contains(&job.id),
                JobSet::None => false,
            };
            let processing = self.jobs.iter_mut().filter(|j| j.status == Status::Processing);
            for job in processing.filter(is_in) {
                job.status = Status::Completed;
                job.has_fate = true;
                settled.completed += 1;
                completes(job);
            }
        }
        self.settled = self.settled.max(position.unwrap_or_default());
        settled
    }

    /// Makes stuck jobs that are not in flight `pending`; returns how many.
    pub(super) fn rescue(&mut self, now: u64, in_flight: &InFlightSnapshot) -> usize {
        let is_stuck = |job: &&mut QueuedJob| {
            let is_old = job.started_at + STUCK_AFTER < now || job.attempts >= 2;
            job.status == Status::Processing && is_old && !in_flight.holds(job.id, job.position)
        };
        let stuck = self.jobs.iter_mut().filter(is_stuck);
        stuck.map(|job| job.status = Status::Pending).count()
    }

    /// An operator retries every job that failed; returns how many.
    pub(super) fn retry_failed(&mut self) -> usize {
        let failed = self.jobs.iter_mut().filter(|job| job.status == Status::Failed);
        failed
            .map(|job| {
                job.status = Status::Pending;
                job.attempts = 0;
                job.due_at = 0;
            })
            .count()
    }
}
