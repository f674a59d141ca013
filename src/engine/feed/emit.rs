//! The feed's only way to the sink: it numbers the batches and sends their actions.
//!
//! Not here: what an action contains (`feed::render`), and the order of actions on one document
//! (`sink::pending`).

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::Span;

use crate::ack::batch::{
    BatchDescriptor, BatchHolds, Commits, CreatedBetween, JobAck, LoadedChunk, PendingBatch,
};
use crate::ack::fanout::{FanoutChunk, FanoutProgress};
use crate::ack::in_flight::InFlightGuard;
use crate::ack::job_set::JobSet;
use crate::ack::memory::{Memory, MemoryPart};
use crate::change::{Change, Lsn};
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::{Action, ActionRoom, ListedPage, SinkCommand};
use crate::postgres::{Disposition, Recovery};
use crate::telemetry::waits::{WaitName, Waits};

/// Actions are weighed in units of this many bytes.
const UNIT_BYTES: usize = 256;

/// A later stage has ended; so does the run.
#[derive(Debug, thiserror::Error)]
#[error("the {0} has stopped")]
pub struct StageGone(pub &'static str);

impl Recovery for StageGone {
    fn disposition(&self) -> Disposition {
        Disposition::Retry
    }
}

/// Numbers the batches and sends their actions.
pub struct Emitter {
    commands: mpsc::Sender<SinkCommand>,
    settled: mpsc::Sender<Arc<PendingBatch>>,
    /// Room for actions that have no verdict yet, in units.
    room: Arc<Semaphore>,
    units: u32,
    sequence: u64,
    waits: Waits,
    memory: Memory,
}

/// What a new batch consists of; [`Emitter::open`] gives it its number.
pub struct NewBatch {
    pub jobs: JobSet,
    pub created: CreatedBetween,
    pub end_lsn: Option<Lsn>,
    pub loaded: Option<LoadedChunk>,
    /// The chunk of fan-outs that settles with the batch.
    pub chunk: Option<FanoutChunk>,
    pub commits: Commits,
    /// Keeps the jobs in flight until the batch is dropped.
    pub hold: Option<InFlightGuard>,
    /// The share of an operation, returned once the batch has settled.
    pub operation: Option<OwnedSemaphorePermit>,
    /// The trace span of the batch.
    pub span: Span,
}

impl NewBatch {
    /// The jobs of these changes.
    pub fn of_jobs<'a>(
        jobs: JobSet,
        changes: impl Iterator<Item = &'a Change> + Clone,
        span: Span,
    ) -> Self {
        Self {
            jobs,
            created: CreatedBetween::of(changes.clone()),
            commits: Commits::of(changes),
            span,
            ..Self::without_jobs()
        }
    }

    /// No jobs: a batch that keeps its place in the order of settlement.
    #[must_use]
    pub fn without_jobs() -> Self {
        Self {
            jobs: JobSet::None,
            created: CreatedBetween::default(),
            end_lsn: None,
            loaded: None,
            chunk: None,
            commits: Commits::default(),
            hold: None,
            operation: None,
            span: Span::none(),
        }
    }
}

impl Emitter {
    /// `bytes_max` bounds the actions between the feed and their verdicts.
    #[must_use]
    pub fn new(
        commands: mpsc::Sender<SinkCommand>,
        settled: mpsc::Sender<Arc<PendingBatch>>,
        bytes_max: usize,
        waits: Waits,
        memory: Memory,
    ) -> Self {
        let units = u32::try_from(bytes_max / UNIT_BYTES).unwrap_or(u32::MAX >> 4).max(1);
        let room = Arc::new(Semaphore::new(units as usize));
        Self { commands, settled, room, units, sequence: 0, waits, memory }
    }

    /// Waits until the feed may take in more. The caller holds nothing.
    pub async fn memory_room(&self) {
        if !self.memory.has_room(MemoryPart::Claims) {
            let room = self.memory.room(MemoryPart::Claims);
            self.waits.during(WaitName::MemoryRoom, room).await;
        }
    }

    /// What the feed holds.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What the feed waits for.
    #[must_use]
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Opens the next batch. Batches settle in the order in which they are opened here.
    pub fn open(&mut self, new: NewBatch) -> Arc<PendingBatch> {
        let sequence = self.sequence;
        self.sequence += 1;
        let NewBatch { jobs, created, end_lsn, loaded, chunk, commits, hold, operation, span } =
            new;
        let fanouts = FanoutProgress { begun: Vec::new(), chunk };
        let descriptor = BatchDescriptor { sequence, jobs, created, end_lsn, loaded, fanouts };
        let bytes = size_of::<PendingBatch>() + descriptor.size() + commits.size();
        let memory = Some(self.memory.hold(MemoryPart::Batches, bytes));
        let holds = BatchHolds { in_flight: hold, memory, operation };
        PendingBatch::open_held(descriptor, commits, holds, span)
    }

    /// Returns the feed's own reference to a batch: all its actions have been sent.
    ///
    /// # Errors
    /// [`StageGone`].
    pub async fn close(&self, pending: Arc<PendingBatch>) -> Result<(), StageGone> {
        if pending.settle_one() {
            self.settled.send(pending).await.map_err(|_| StageGone("checkpoint"))?;
        }
        Ok(())
    }

    /// Sends a batch to the checkpoint whose last reference has been returned.
    ///
    /// # Errors
    /// [`StageGone`].
    pub async fn close_settled(&self, pending: Arc<PendingBatch>) -> Result<(), StageGone> {
        self.settled.send(pending).await.map_err(|_| StageGone("checkpoint"))
    }

    /// Settles jobs that need no action.
    ///
    /// # Errors
    /// [`StageGone`].
    pub async fn done(&self, jobs: SmallVec<[JobAck; 1]>) -> Result<(), StageGone> {
        for job in jobs {
            if let Some(pending) = job.done() {
                self.settled.send(pending).await.map_err(|_| StageGone("checkpoint"))?;
            }
        }
        Ok(())
    }

    /// Sends one action, once there is room for it.
    ///
    /// # Errors
    /// [`StageGone`].
    pub async fn send(&self, mut action: Action) -> Result<(), StageGone> {
        let bytes = action.size();
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let units = units.clamp(1, self.units);
        let permit = self.take_room(units, WaitName::ActionRoom).await;
        let memory = self.memory.hold(MemoryPart::Actions, bytes);
        action.room = Some(ActionRoom::new(permit, memory));
        self.commands.send(SinkCommand::Act(action)).await.map_err(|_| StageGone("sink"))
    }

    /// Waits until every action sent so far has its verdict, or is parked.
    pub async fn barrier(&self) {
        drop(self.take_room(self.units, WaitName::Barrier).await);
    }

    async fn take_room(&self, units: u32, wait: WaitName) -> OwnedSemaphorePermit {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(units) {
            return room;
        }
        let room = Arc::clone(&self.room).acquire_many_owned(units);
        let room = self.waits.during(wait, room).await;
        room.expect("the feed never closes its own semaphore")
    }

    /// Lists the documents of an index, in pages, the last of which is empty. Call
    /// [`Emitter::barrier`] first.
    ///
    /// # Errors
    /// [`StageGone`].
    pub async fn enumerate(
        &self,
        index: IndexId,
        filter: Option<(String, String)>,
    ) -> Result<mpsc::Receiver<ListedPage>, StageGone> {
        let (pages, receiver) = mpsc::channel(1);
        let command = SinkCommand::Enumerate { index, filter, pages };
        self.commands.send(command).await.map_err(|_| StageGone("sink"))?;
        Ok(receiver)
    }
}
