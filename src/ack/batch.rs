//! A pending batch counts the actions of its jobs until each has its verdict.
//!
//! The feed opens a batch, attaches a reference to every action that it makes of the batch's jobs,
//! and returns its own reference after the last action. The task that returns the last reference
//! receives the batch, and sends it to the checkpoint. The order of batches is kept there.
//!
//! Not here: I/O. A batch is a counter with a descriptor.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Span;

use super::in_flight::InFlightGuard;
use super::job_set::JobSet;
use crate::change::Micros;
use crate::change::{Change, Lsn, Position, TableId};

/// Rows' commit times in microseconds since 1970, so that partitions can be pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreatedBetween {
    pub min: i64,
    pub max: i64,
}

impl CreatedBetween {
    /// The first and the last commit time of these changes; zero where there are none.
    pub fn of<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        changes
            .map(|change| change.committed_at)
            .map(|at| Self { min: at, max: at })
            .reduce(|a, b| Self { min: a.min.min(b.min), max: a.max.max(b.max) })
            .unwrap_or_default()
    }
}

/// What a batch consists of, and its place in the order of settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchDescriptor {
    /// Batches of one run count up from 0 without a gap.
    pub sequence: u64,
    pub jobs: JobSet,
    pub created: CreatedBetween,
    /// The end LSN of the last commit that this batch completes: settled with the batch and all
    /// before it, everything up to here may be acknowledged.
    pub end_lsn: Option<Lsn>,
    /// The chunk of the first load that settles with this batch.
    pub loaded: Option<LoadedChunk>,
}

/// How far the first load of a table has come once a batch settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedChunk {
    /// `schema.name` of the table.
    pub table: String,
    /// The JSON text of the last key read (an array of the key's columns); `None` when the table
    /// is finished.
    pub last_key: Option<String>,
    pub row_count: u64,
}

/// A job whose document Elasticsearch refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub job: JobKey,
    /// A sentence for `error_message`: type, reason and the document it is about.
    pub error: String,
}

/// A job whose action waits for an index that takes no documents. It is `pending` again, and has
/// used up no attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedJob {
    pub job: JobKey,
    /// A sentence for `error_message`: the index, and why it takes no documents.
    pub reason: Arc<str>,
    /// The time until the job is due.
    pub wait: Duration,
}

/// The jobs of a batch that are not completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    pub failures: Vec<Failure>,
    pub parked: Vec<ParkedJob>,
}

impl From<Vec<Failure>> for Unfinished {
    fn from(failures: Vec<Failure>) -> Self {
        Self { failures, parked: Vec::new() }
    }
}

/// When the changes of a batch were committed, run-length encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commits(Vec<Committed>);

/// Consecutive changes of one table with one commit time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub table: TableId,
    /// In microseconds since 1970.
    pub at: i64,
    pub changes: u32,
}

impl Commits {
    /// The commit times of these changes.
    pub fn of<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        let mut commits: Vec<Committed> = Vec::new();
        for change in changes {
            match commits.last_mut() {
                Some(last) if last.at == change.committed_at && last.table == change.table => {
                    last.changes += 1;
                }
                _ => commits.push(Committed {
                    table: change.table,
                    at: change.committed_at,
                    changes: 1,
                }),
            }
        }
        Self(commits)
    }
}

/// Identifies one job of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKey {
    At(Position),
    Id(i64),
}

/// A batch whose actions have not all been answered.
#[derive(Debug)]
pub struct PendingBatch {
    descriptor: BatchDescriptor,
    open: AtomicUsize,
    unfinished: Mutex<Unfinished>,
    commits: Commits,
    /// The trace span of the batch, which ends with it.
    batch: Span,
    /// When the last reference came back, in microseconds since 1970.
    settled_at: AtomicI64,
    /// Keeps the jobs in flight while the batch exists.
    _hold: Option<InFlightGuard>,
}

impl PendingBatch {
    /// A new batch. The caller has its first reference and must return it by
    /// [`PendingBatch::settle_one`].
    #[must_use]
    pub fn open(descriptor: BatchDescriptor) -> Arc<Self> {
        Self::open_held(descriptor, Commits::default(), None, Span::none())
    }

    /// As [`PendingBatch::open`], for jobs that were committed at these times and are in flight until
    /// the batch is dropped.
    #[must_use]
    pub fn open_held(
        descriptor: BatchDescriptor,
        commits: Commits,
        hold: Option<InFlightGuard>,
        batch: Span,
    ) -> Arc<Self> {
        Arc::new(Self {
            descriptor,
            open: AtomicUsize::new(1),
            unfinished: Mutex::default(),
            commits,
            batch,
            settled_at: AtomicI64::new(0),
            _hold: hold,
        })
    }

    /// What the batch consists of.
    #[must_use]
    pub fn descriptor(&self) -> &BatchDescriptor {
        &self.descriptor
    }

    /// The trace span of the batch, the parent of spans of the work on it.
    #[must_use]
    pub fn batch(&self) -> &Span {
        &self.batch
    }

    /// A reference for one job of this batch, to be attached to an action.
    pub fn reference(self: &Arc<Self>, job: JobKey) -> JobAck {
        self.open.fetch_add(1, Ordering::Relaxed);
        JobAck { pending: Arc::clone(self), job }
    }

    /// Returns one reference; true for the last one: the batch can be settled now.
    #[must_use]
    pub fn settle_one(&self) -> bool {
        let before = self.open.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "batch {} settled more often than opened", self.descriptor.sequence);
        let last = before == 1;
        if last {
            self.settled_at.store(Micros::now().0, Ordering::Relaxed);
        }
        last
    }

    /// The seconds from commit to the last answer for the batch, once it has settled.
    pub fn latencies(&self) -> impl Iterator<Item = (Committed, f64)> {
        let settled_at = self.settled_at.load(Ordering::Relaxed);
        self.commits.0.iter().map(move |committed| {
            let took = u64::try_from(settled_at.saturating_sub(committed.at)).unwrap_or(0);
            (*committed, Duration::from_micros(took).as_secs_f64())
        })
    }

    /// The jobs that failed, each once, with its first error. Empties the list.
    #[must_use]
    pub fn take_failures(&self) -> Vec<Failure> {
        let mut failures = std::mem::take(&mut self.unfinished().failures);
        failures.sort_by_key(|f| f.job);
        failures.dedup_by_key(|f| f.job);
        failures
    }

    /// The jobs that are not completed, each once in its list. Empties the lists.
    #[must_use]
    pub fn take_unfinished(&self) -> Unfinished {
        let mut parked = std::mem::take(&mut self.unfinished().parked);
        parked.sort_by_key(|p| p.job);
        parked.dedup_by_key(|p| p.job);
        Unfinished { failures: self.take_failures(), parked }
    }

    fn unfinished(&self) -> MutexGuard<'_, Unfinished> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One job's reference, attached to an action. Every reference must be returned by
/// [`JobAck::done`], [`JobAck::failed`] or [`JobAck::parked`]. A dropped reference leaves its batch open for ever, so
/// nothing settles by accident when a run is torn down.
#[derive(Debug)]
#[must_use]
pub struct JobAck {
    pending: Arc<PendingBatch>,
    job: JobKey,
}

impl JobAck {
    /// Elasticsearch has the action's state or a newer one. The last reference returns the batch.
    pub fn done(self) -> Option<Arc<PendingBatch>> {
        self.pending.settle_one().then_some(self.pending)
    }

    /// Elasticsearch refuses the document for good. The last reference returns the batch.
    pub fn failed(self, error: String) -> Option<Arc<PendingBatch>> {
        self.pending.unfinished().failures.push(Failure { job: self.job, error });
        self.done()
    }

    /// The action was dropped, as its index takes no documents: the job is due again after `wait`.
    /// The last reference returns the batch.
    pub fn parked(self, reason: Arc<str>, wait: Duration) -> Option<Arc<PendingBatch>> {
        let mut unfinished = self.pending.unfinished();
        // A fan-out has many actions of one job.
        if unfinished.parked.last().is_none_or(|last| last.job != self.job) {
            unfinished.parked.push(ParkedJob { job: self.job, reason, wait });
        }
        drop(unfinished);
        self.done()
    }

    /// Whether the job stands in the queue. Rows of the first load have none.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.pending.descriptor.jobs != JobSet::None
    }

    /// The job that the reference stands for.
    #[must_use]
    pub fn job(&self) -> JobKey {
        self.job
    }

    /// The trace span of the job's batch.
    #[must_use]
    pub fn batch(&self) -> &Span {
        &self.pending.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Arc<PendingBatch> {
        PendingBatch::open(BatchDescriptor {
            sequence: 0,
            jobs: JobSet::None,
            created: CreatedBetween { min: 0, max: 0 },
            end_lsn: None,
            loaded: None,
        })
    }

    #[test]
    fn the_last_reference_returns_the_batch() {
        let pending = pending();
        let a = pending.reference(JobKey::Id(1));
        let b = pending.reference(JobKey::Id(2));
        assert!(a.done().is_none());
        assert!(!pending.settle_one());
        assert!(b.done().is_some());
    }

    #[test]
    fn a_job_fails_once_with_its_first_error() {
        let pending = pending();
        let a = pending.reference(JobKey::Id(1));
        let b = pending.reference(JobKey::Id(1));
        assert!(a.failed("first".to_owned()).is_none());
        assert!(b.failed("second".to_owned()).is_none());
        assert!(pending.settle_one());
        let failures = pending.take_failures();
        assert_eq!(failures, [Failure { job: JobKey::Id(1), error: "first".to_owned() }]);
    }

    #[test]
    fn a_job_is_parked_once() {
        let pending = pending();
        let wait = Duration::from_secs(1);
        for id in [1, 1, 2, 1] {
            let job = pending.reference(JobKey::Id(id));
            assert!(job.parked("closed".into(), wait).is_none());
        }
        assert!(pending.settle_one());
        let parked = |id| ParkedJob { job: JobKey::Id(id), reason: "closed".into(), wait };
        assert_eq!(pending.take_unfinished().parked, [parked(1), parked(2)]);
    }
}
