//! A small queue table with its positions. Every function is one transaction. It asserts that each
//! change has exactly one job.

use std::collections::BTreeSet;

use crate::ack::batch::{BatchDescriptor, JobKey, Unfinished};
use crate::ack::fanout::{BegunFanout, FanoutChunk, FanoutProgress};
use crate::ack::in_flight::InFlightSnapshot;
use crate::ack::job_set::JobSet;
use crate::change::{Change, Lsn, Position};
use crate::storage::queue::status::Status;

use super::queued_job::{NotDone, QueuedJob};
use super::source::{SourceModel, Subject};

/// `processing` for longer than this is stuck, in milliseconds.
const STUCK_AFTER: u64 = 30_000;

/// A job of a fan-out, and what became of it so far.
#[derive(Debug)]
pub(super) struct FanoutJob {
    pub(super) id: i64,
    not_done: Option<NotDone>,
}

/// A fan-out in the background.
#[derive(Debug)]
pub(super) struct QueuedFanout {
    pub(super) id: i64,
    pub(super) highest: Position,
    pub(super) jobs: Vec<FanoutJob>,
    /// All before this row is settled.
    pub(super) next_row: usize,
}

/// A batch as the checkpoint settles it.
pub(super) struct SettledBatch {
    pub(super) descriptor: BatchDescriptor,
    pub(super) unfinished: Unfinished,
    pub(super) begun: Vec<BegunFanout>,
}

/// What a settlement moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) parked: u64,
    pub(super) begun: u64,
    pub(super) chunks: u64,
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
    pub(super) fanouts: Vec<QueuedFanout>,
    next_fanout: i64,
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
            fanouts: Vec::new(),
            next_fanout: 1,
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
            waits_for: None,
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
        let of_fanouts = self.jobs_of_fanouts();
        let orphans = self.jobs.iter_mut().filter(|job| job.status == Status::Processing);
        orphans
            .filter(|job| job.epoch != epoch && !of_fanouts.contains(&job.id))
            .for_each(|job| job.status = Status::Pending);
    }

    /// Jobs that end with a fan-out.
    fn jobs_of_fanouts(&self) -> BTreeSet<i64> {
        self.fanouts.iter().flat_map(|fanout| &fanout.jobs).map(|job| job.id).collect()
    }

    pub(super) fn lowest_unfinished(&self) -> Option<Position> {
        let unfinished = |job: &&QueuedJob| {
            matches!(job.status, Status::Pending | Status::Processing) && job.waits_for.is_none()
        };
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
        let is_due = |job: &&mut QueuedJob| job.is_due(now) && is_wanted(job.position);
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
        let is_due = |job: &QueuedJob| job.is_due(now) && job.position.is_none();
        self.jobs.iter().any(is_due)
    }

    /// Ends the wait of jobs for this index; returns of how many.
    pub(super) fn release(&mut self, index: &str, limit: usize) -> usize {
        let waiting =
            self.jobs.iter_mut().filter(|job| job.waits_for.as_deref() == Some(index)).take(limit);
        waiting.map(|job| job.waits_for = None).count()
    }

    /// Gives every job of these batches its fate, moves fan-outs on, and raises the settled position.
    pub(super) fn settle(
        &mut self,
        batches: Vec<SettledBatch>,
        position: Option<Lsn>,
        now: u64,
        mut completes: impl FnMut(&QueuedJob),
    ) -> Settled {
        let mut settled = Settled::default();
        for SettledBatch { descriptor, unfinished, begun } in batches {
            let chunk = descriptor.fanouts.chunk.clone();
            let progress = FanoutProgress { begun, chunk };
            let later: BTreeSet<i64> =
                progress.unfinished_jobs().into_iter().filter_map(|key| self.id_of(key)).collect();
            settled.begun += progress.begun.len() as u64;
            progress.begun.iter().for_each(|begun| self.begin_fanout(begun));
            for (key, why) in reasons(unfinished) {
                let Some(id) = self.id_of(key) else { continue };
                let of_fanouts = self.fanouts.iter_mut().flat_map(|fanout| &mut fanout.jobs);
                let mut of_fanout = of_fanouts.filter(|job| job.id == id).peekable();
                if of_fanout.peek().is_some() {
                    of_fanout.for_each(|job| job.not_done = Some(why.clone()));
                } else if let Some(job) = self.processing(id) {
                    job.leave(&why, now);
                    settled.failed += u64::from(job.status == Status::Failed);
                    settled.parked += u64::from(job.is_parked());
                }
            }
            let processing = self.jobs.iter_mut().filter(|j| j.status == Status::Processing);
            for job in processing.filter(|job| is_in(&descriptor.jobs, job)) {
                job.has_fate = true;
                if !later.contains(&job.id) {
                    job.status = Status::Completed;
                    settled.completed += 1;
                    completes(job);
                }
            }
            if let Some(chunk) = progress.chunk {
                settled.chunks += 1;
                self.advance(&chunk, now, &mut settled, &mut completes);
            }
        }
        self.settled = self.settled.max(position.unwrap_or_default());
        settled
    }

    fn begin_fanout(&mut self, begun: &BegunFanout) {
        for group in &begun.groups {
            let jobs = group.jobs.iter().filter_map(|key| self.id_of(*key));
            let jobs = jobs.map(|id| FanoutJob { id, not_done: None }).collect();
            let (id, highest) = (self.next_fanout, group.highest);
            self.fanouts.push(QueuedFanout { id, highest, jobs, next_row: 0 });
            self.next_fanout += 1;
        }
    }

    /// Stores the progress of a chunk, or ends its fan-out and the jobs of that.
    fn advance(
        &mut self,
        chunk: &FanoutChunk,
        now: u64,
        settled: &mut Settled,
        completes: &mut impl FnMut(&QueuedJob),
    ) {
        let is_it = |fanout: &QueuedFanout| chunk.fanouts.contains(&fanout.id);
        let at = self.fanouts.iter().position(is_it).expect("a chunk is of one that is stored");
        if let Some(key) = &chunk.last_key {
            let next_row = key.parse().expect("a row");
            let before = std::mem::replace(&mut self.fanouts[at].next_row, next_row);
            assert!(before < next_row, "a fan-out goes back from {before} to {next_row}");
            return;
        }
        for FanoutJob { id, not_done } in self.fanouts.remove(at).jobs {
            let Some(job) = self.processing(id) else { continue };
            match not_done {
                Some(why) => job.leave(&why, now),
                None => {
                    job.status = Status::Completed;
                    settled.completed += 1;
                    completes(job);
                }
            }
            settled.failed += u64::from(job.status == Status::Failed);
            settled.parked += u64::from(job.is_parked());
        }
    }

    fn id_of(&self, key: JobKey) -> Option<i64> {
        match key {
            JobKey::Id(id) => Some(id),
            JobKey::At(position) => {
                let mut jobs = self.jobs.iter();
                jobs.find(|job| job.position == Some(position)).map(|job| job.id)
            }
            JobKey::Loaded(_) => None,
        }
    }

    fn processing(&mut self, id: i64) -> Option<&mut QueuedJob> {
        let mut processing = self.jobs.iter_mut().filter(|job| job.status == Status::Processing);
        processing.find(|job| job.id == id)
    }

    /// Makes stuck jobs that are not in flight `pending`; returns how many.
    pub(super) fn rescue(&mut self, now: u64, in_flight: &InFlightSnapshot) -> usize {
        let of_fanouts = self.jobs_of_fanouts();
        let is_stuck = |job: &&mut QueuedJob| {
            let is_old = job.started_at + STUCK_AFTER < now || job.attempts >= 2;
            let is_worked_on =
                in_flight.holds(job.id, job.position) || of_fanouts.contains(&job.id);
            job.status == Status::Processing && is_old && !is_worked_on
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

fn is_in(jobs: &JobSet, job: &QueuedJob) -> bool {
    match jobs {
        JobSet::Range { first, last } => {
            job.position.is_some_and(|at| (*first..=*last).contains(&at))
        }
        JobSet::Ids(ids) => ids.contains(&job.id),
        JobSet::None => false,
    }
}

/// The jobs that are not completed, each with the reason.
fn reasons(unfinished: Unfinished) -> impl Iterator<Item = (JobKey, NotDone)> {
    let Unfinished { failures, parked } = unfinished;
    let refused = failures.into_iter().map(|failure| (failure.job, NotDone::Refused));
    refused.chain(parked.into_iter().map(|p| (p.job, NotDone::Parked(p.wait.index.clone()))))
}
