//! A pending batch counts the actions of its jobs until each has its verdict.
//!
//! The feed opens a batch, attaches a reference to every action that it makes of the batch's jobs,
//! and returns its own reference after the last action. The task that returns the last reference
//! receives the batch, and sends it to the checkpoint. The order of batches is kept there.
//!
//! Not here: I/O. A batch is a counter with a descriptor.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tracing::Span;

pub use super::commits::{Commits, Committed, CreatedBetween};
use super::fanout::{BegunFanout, FanoutProgress};
use super::in_flight::InFlightGuard;
pub use super::job_set::JobKey;
use super::job_set::JobSet;
pub use super::loaded_chunk::{ChunkPurpose, LoadedChunk, LoadedRow, ParkedRow, RefusedRow};
use super::memory::MemoryHold;
pub use super::unfinished::{Failure, IndexWait, ParkedJob, Unfinished};
use crate::change::Lsn;
use crate::change::Micros;

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
    /// The chunk of the first load, or of an operation, that settles with this batch.
    pub loaded: Option<LoadedChunk>,
    /// What the settlement of this batch does to fan-outs.
    pub fanouts: FanoutProgress,
}

impl BatchDescriptor {
    /// The bytes on the heap.
    #[must_use]
    pub fn size(&self) -> usize {
        let rows = self.loaded.as_ref().map_or(0, |chunk| {
            chunk.rows.iter().map(|row| size_of::<LoadedRow>() + row.key.len()).sum()
        });
        // The jobs are listed here and in the list of jobs in flight.
        2 * self.jobs.size() + rows
    }
}

/// The jobs that are not completed so far. A parked job is rendered again as a whole, so a refusal
/// of one of its documents is left to that time.
#[derive(Debug, Default)]
struct OpenJobs {
    /// The first error of each.
    failures: BTreeMap<JobKey, String>,
    parked: BTreeMap<JobKey, Arc<IndexWait>>,
}

/// Fan-outs that a batch has left to the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BegunCount {
    pub fanouts: usize,
    pub jobs: usize,
}

/// A batch whose actions have not all been answered.
#[derive(Debug)]
pub struct PendingBatch {
    descriptor: BatchDescriptor,
    open: AtomicUsize,
    open_jobs: Mutex<OpenJobs>,
    /// Fan-outs of the batch that go on in the background.
    begun: Mutex<Vec<BegunFanout>>,
    commits: Commits,
    /// The trace span of the batch, which ends with it.
    batch: Span,
    /// When the last reference came back, in microseconds since 1970.
    settled_at: AtomicI64,
    _holds: BatchHolds,
}

/// What a batch holds while it exists.
#[derive(Debug, Default)]
pub struct BatchHolds {
    /// Keeps its jobs in flight.
    pub in_flight: Option<InFlightGuard>,
    /// Counts its bytes.
    pub memory: Option<MemoryHold>,
    /// The share of an operation in what may be on its way.
    pub operation: Option<OwnedSemaphorePermit>,
}

impl PendingBatch {
    /// A new batch. The caller has its first reference and must return it by
    /// [`PendingBatch::settle_one`].
    #[must_use]
    pub fn open(descriptor: BatchDescriptor) -> Arc<Self> {
        Self::open_held(descriptor, Commits::default(), BatchHolds::default(), Span::none())
    }

    /// As [`PendingBatch::open`], for jobs that were committed at these times and are in flight until
    /// the batch is dropped.
    #[must_use]
    pub fn open_held(
        descriptor: BatchDescriptor,
        commits: Commits,
        holds: BatchHolds,
        batch: Span,
    ) -> Arc<Self> {
        Arc::new(Self {
            descriptor,
            open: AtomicUsize::new(1),
            open_jobs: Mutex::default(),
            begun: Mutex::default(),
            commits,
            batch,
            settled_at: AtomicI64::new(0),
            _holds: holds,
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
        self.refer(AckedJobs::One(job))
    }

    /// One reference for all of these jobs, which fail together. However many they are, it takes the
    /// room of one. There is at least one.
    pub fn group_reference(self: &Arc<Self>, jobs: &Arc<[JobKey]>) -> JobAck {
        match **jobs {
            [job] => self.reference(job),
            _ => self.refer(AckedJobs::Group(Arc::clone(jobs))),
        }
    }

    fn refer(self: &Arc<Self>, jobs: AckedJobs) -> JobAck {
        self.open.fetch_add(1, Ordering::Relaxed);
        JobAck { pending: Arc::clone(self), jobs }
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

    /// Leaves a fan-out to the background: its jobs do not end with the batch. Called before the
    /// feed returns its own reference.
    pub fn begin_fanout(&self, begun: BegunFanout) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push(begun);
    }

    /// How many fan-outs were left to the background, and how many jobs they have.
    #[must_use]
    pub fn begun_fanouts(&self) -> BegunCount {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = begun.iter().flat_map(|begun| &begun.groups);
        BegunCount { fanouts: begun.len(), jobs: groups.map(|group| group.jobs.len()).sum() }
    }

    /// The fan-outs that were left to the background. Empties the list.
    #[must_use]
    pub fn take_begun(&self) -> Vec<BegunFanout> {
        std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The seconds from commit to the last answer for the batch, once it has settled.
    pub fn latencies(&self) -> impl Iterator<Item = (Committed, f64)> {
        let settled_at = self.settled_at.load(Ordering::Relaxed);
        self.commits.iter().map(move |committed| {
            let took = u64::try_from(settled_at.saturating_sub(committed.at)).unwrap_or(0);
            (*committed, Duration::from_micros(took).as_secs_f64())
        })
    }

    /// The jobs that are not completed, each once. Empties the lists.
    #[must_use]
    pub fn take_unfinished(&self) -> Unfinished {
        let mut jobs = self.open_jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let OpenJobs { mut failures, parked } = std::mem::take(&mut *jobs);
        failures.retain(|job, _| !parked.contains_key(job));
        Unfinished {
            failures: failures.into_iter().map(|(job, error)| Failure { job, error }).collect(),
            parked: parked.into_iter().map(|(job, wait)| ParkedJob { job, wait }).collect(),
        }
    }
}

/// One job's reference, attached to an action. Every reference must be returned by
/// [`JobAck::done`], [`JobAck::failed`] or [`JobAck::parked`]. A dropped reference leaves its batch
/// open for ever, so nothing settles by accident when a run is torn down.
#[derive(Debug)]
#[must_use]
pub struct JobAck {
    pending: Arc<PendingBatch>,
    jobs: AckedJobs,
}

/// The jobs that one reference stands for.
#[derive(Debug)]
enum AckedJobs {
    One(JobKey),
    /// At least one.
    Group(Arc<[JobKey]>),
}

impl AckedJobs {
    fn keys(&self) -> &[JobKey] {
        match self {
            Self::One(job) => std::slice::from_ref(job),
            Self::Group(jobs) => jobs,
        }
    }
}

impl JobAck {
    /// Elasticsearch has the action's state or a newer one. The last reference returns the batch.
    pub fn done(self) -> Option<Arc<PendingBatch>> {
        self.pending.settle_one().then_some(self.pending)
    }

    /// Elasticsearch refuses the document for good. The last reference returns the batch.
    pub fn failed(self, error: String) -> Option<Arc<PendingBatch>> {
        self.note(|jobs, job| {
            jobs.failures.entry(job).or_insert_with(|| error.clone());
        });
        self.done()
    }

    /// The action was dropped, as its index takes no documents. The last reference returns the
    /// batch.
    pub fn parked(self, wait: &Arc<IndexWait>) -> Option<Arc<PendingBatch>> {
        self.note(|jobs, job| {
            jobs.parked.entry(job).or_insert_with(|| Arc::clone(wait));
        });
        self.done()
    }

    /// Whether a job can wait in the queue. One that was deleted from it cannot.
    #[must_use]
    pub fn can_wait(&self) -> bool {
        !self.jobs.keys().contains(&JobKey::GONE)
    }

    fn note(&self, mut add: impl FnMut(&mut OpenJobs, JobKey)) {
        let mut jobs = self.pending.open_jobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.jobs.keys().iter().for_each(|job| add(&mut jobs, *job));
    }

    /// The job that the reference stands for, or the first of them.
    #[must_use]
    pub fn job(&self) -> JobKey {
        self.jobs.keys()[0]
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
            fanouts: FanoutProgress::default(),
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
        let failures = pending.take_unfinished().failures;
        assert_eq!(failures, [Failure { job: JobKey::Id(1), error: "first".to_owned() }]);
    }

    #[test]
    fn a_job_is_parked_once_and_not_failed() {
        let pending = pending();
        let wait = |index: &str| {
            Arc::new(IndexWait { index: index.to_owned(), reason: "closed".to_owned() })
        };
        assert!(pending.reference(JobKey::Id(2)).failed("refused".to_owned()).is_none());
        let group: Arc<[JobKey]> = Arc::from([JobKey::Id(2), JobKey::Id(1)]);
        assert!(pending.group_reference(&group).parked(&wait("a")).is_none());
        assert!(pending.reference(JobKey::Id(1)).parked(&wait("b")).is_none());
        assert!(pending.settle_one());
        let parked = |id| ParkedJob { job: JobKey::Id(id), wait: wait("a") };
        let unfinished = pending.take_unfinished();
        assert_eq!(unfinished.parked, [parked(1), parked(2)]);
        assert_eq!(unfinished.failures, []);
    }

    #[test]
    fn the_jobs_of_a_group_fail_together_and_count_as_one_reference() {
        let pending = pending();
        let group: Arc<[JobKey]> = Arc::from([JobKey::Id(2), JobKey::Id(1)]);
        let a = pending.reference(JobKey::Id(1));
        let b = pending.group_reference(&group);
        assert_eq!(b.job(), JobKey::Id(2));
        assert!(a.failed("first".to_owned()).is_none());
        assert!(!pending.settle_one());
        assert!(b.failed("second".to_owned()).is_some());
        let failure = |id, error: &str| Failure { job: JobKey::Id(id), error: error.to_owned() };
        assert_eq!(pending.take_unfinished().failures, [failure(1, "first"), failure(2, "second")]);
    }
}
