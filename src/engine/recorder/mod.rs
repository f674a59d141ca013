//! Writes every change into the queue table, and sends it to the feed while the feed is live.
//!
//! One batch is one transaction: the jobs and the position of the last of them. While live, room in
//! the live channel is reserved *before* the jobs are written as `processing`, so that no job must
//! ever be taken back. While capturing, jobs are written as `pending`; the table is their source.
//! While the feed works through the table and all is well, nothing is written ([`recording`]).
//!
//! Not here: how a batch is written (`storage::queue::record`), and when to stop being live
//! (`recording`, `engine::control`).

mod batch;
mod count;
mod handover;
pub mod recording;
mod settlement;
pub mod stall;
#[cfg(test)]
mod testing;

use std::time::Duration;

use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use batch::BatchAssembler;
pub use count::RecorderMetrics;
pub use handover::{GoneLive, LiveRequest, Recorded};

use super::control::SettlementProgress;
use crate::ack::in_flight::InFlight;
use crate::ack::job_set::JobSet;
use crate::ack::memory::{MemoryHold, MemoryPart};
use crate::change::{Change, Lsn, Position};
use crate::config::Limits;
use crate::engine::control::{Control, IndexingReport};
use crate::engine::wal::CapturedChunk;
use crate::storage::QueueError;
use crate::storage::queue::record::Recorder as Storage;
use crate::storage::queue::status::Status;
use crate::telemetry::metrics::Stage;
use crate::telemetry::trace;
use crate::telemetry::waits::{WaitGuard, WaitName};
use recording::{BatchRoom, CaptureReason, Inputs, Next, Recording};
use settlement::{SettlementEvent, settlement};
use stall::StallWatch;

/// Batches on their way to the feed.
const LIVE_BATCHES_MAX: usize = 2;
/// Elasticsearch may take this long to answer before changes are captured without it.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// The recorder's ends of the channels of the run.
pub struct RecorderChannels {
    pub changes: mpsc::Receiver<CapturedChunk>,
    pub requests: mpsc::Receiver<LiveRequest>,
    /// Up to here the table holds every change.
    pub recorded_end: watch::Sender<Lsn>,
    pub control: watch::Receiver<Control>,
    pub indexing: watch::Receiver<IndexingReport>,
    /// Changes whenever a batch settles.
    pub progress: watch::Receiver<SettlementProgress>,
}

/// Writes the jobs of one run into the storage `S`.
pub struct Recorder<S = Storage> {
    storage: S,
    assembler: BatchAssembler,
    /// The position of the last change in the table.
    recorded: Position,
    recording: Recording,
    /// A request of the feed that is not answered yet.
    request: Option<LiveRequest>,
    stall: StallWatch,
    /// Until then a run waits for Elasticsearch's first answer.
    start_deadline: Instant,
    channels: RecorderChannels,
    in_flight: InFlight,
    metrics: RecorderMetrics,
    /// Counts what is not written.
    memory: MemoryHold,
    /// Held while changes are held back.
    holding: Option<WaitGuard>,
}

impl Recorder {
    /// A recorder that continues after the stored position.
    #[must_use]
    pub fn new(
        storage: Storage,
        limits: &Limits,
        channels: RecorderChannels,
        in_flight: InFlight,
        metrics: RecorderMetrics,
    ) -> Self {
        let assembler = BatchAssembler::new(storage.recorded(), limits);
        Self::begun(storage, assembler, channels, in_flight, metrics, Instant::now())
    }
}

/// What a recorder waits for, besides an order, a request and its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnWaits {
    /// Nothing is written: a report of the feed may end that.
    pub(super) holding: bool,
    /// A batch waits for room.
    pub(super) has_batch: bool,
    /// A settlement matters.
    pub(super) settlement: bool,
    /// When Elasticsearch has had its time.
    pub(super) start_deadline: Option<Instant>,
}

/// Runs until `stop`. The server sends again what is not written by then.
///
/// # Errors
/// [`QueueError`], which ends the run: only the next run can know what was committed.
pub async fn run(mut recorder: Recorder, stop: CancellationToken) -> Result<(), QueueError> {
    loop {
        let turn = recorder.turn(Instant::now());
        recorder.note_holding();
        let TurnWaits { holding, has_batch, start_deadline, .. } = turn;
        let Recorder { channels, recording, request, stall, metrics, .. } = &mut recorder;
        let waits = &metrics.waits;
        tokio::select! {
            biased; // stop, obey, answer the feed, write, and only then take more
            () = stop.cancelled() => return Ok(()),
            changed = channels.control.changed() => if changed.is_err() { return Ok(()) },
            Some(asked) = channels.requests.recv(), if request.is_none() => *request = Some(asked),
            _ = channels.indexing.changed(), if holding => stall.feed_moved(),
            event = settlement(&mut channels.progress, stall), if turn.settlement => match event {
                SettlementEvent::Stalled => recorder.settlement_stalled(),
                SettlementEvent::Resumed => {}
            },
            () = sleep_until(start_deadline.unwrap_or_else(Instant::now)),
                if start_deadline.is_some() => {}
            room = waits.during(WaitName::LiveRoom, recording.room()), if has_batch && !holding =>
                recorder.write(room).await?,
            chunk = channels.changes.recv(), if !holding && !has_batch => match chunk {
                Some(chunk) => recorder.take_in(chunk),
                None => return Ok(()),
            },
        }
    }
}

impl<S> Recorder<S> {
    pub(super) fn begun(
        storage: S,
        assembler: BatchAssembler,
        channels: RecorderChannels,
        in_flight: InFlight,
        metrics: RecorderMetrics,
        now: Instant,
    ) -> Self {
        Self {
            storage,
            recorded: assembler.recorded(),
            assembler,
            recording: Recording::Holding,
            request: None,
            stall: StallWatch::default(),
            start_deadline: now + START_PATIENCE,
            channels,
            in_flight,
            memory: metrics.memory.hold(MemoryPart::Recorder, 0),
            metrics,
            holding: None,
        }
    }

    /// Enters the state that follows from what is known now, and returns what ends it.
    pub(super) fn turn(&mut self, now: Instant) -> TurnWaits {
        self.decide(now);
        self.fill_batch();
        let holding = self.recording.is_holding();
        let has_batch = !self.assembler.is_empty();
        let settlement =
            self.stall.is_stalled() || holding || (self.recording.is_live() && has_batch);
        self.stall.waits(settlement, now);
        let start_deadline =
            Some(self.start_deadline).filter(|_| holding && !self.start_expired(now));
        TurnWaits { holding, has_batch, settlement, start_deadline }
    }

    /// Enters the state that follows from what is known now.
    fn decide(&mut self, now: Instant) {
        if self.request.is_none() {
            self.request = self.channels.requests.try_recv().ok();
        }
        loop {
            self.recording = match recording::next(self.inputs(now)) {
                Next::StayLive => return,
                Next::Hold => Recording::Holding,
                Next::Capture(reason) => {
                    self.log_capture(reason);
                    Recording::Capturing(reason)
                }
                Next::GoLive => match self.go_live() {
                    Some(feed) => Recording::Live(feed),
                    None => {
                        // The feed no longer waits for the answer.
                        self.recording = Recording::Holding;
                        continue;
                    }
                },
            };
            return;
        }
    }

    /// Says since when changes are held back.
    fn note_holding(&mut self) {
        if !self.recording.is_holding() {
            self.holding = None;
        } else if self.holding.is_none() {
            self.holding = Some(self.metrics.waits.begin(WaitName::TableEnd));
        }
    }

    fn log_capture(&self, reason: CaptureReason) {
        if !matches!(self.recording, Recording::Capturing(known) if known == reason) {
            tracing::debug!(?reason, "capturing changes without the feed");
        }
    }

    fn inputs(&self, now: Instant) -> Inputs {
        Inputs {
            ordered: self.channels.control.borrow().capture,
            requested: self.request.is_some(),
            live: self.recording.is_live(),
            stalled: self.stall.is_stalled(),
            mode: self.channels.indexing.borrow().mode,
            start_expired: self.start_expired(now),
        }
    }

    fn start_expired(&self, now: Instant) -> bool {
        now >= self.start_deadline
    }

    /// Answers the feed's request; `None` if the feed no longer waits for it.
    fn go_live(&mut self) -> Option<mpsc::Sender<Recorded>> {
        self.stall.went_live();
        let request = self.request.take()?;
        let (feed, batches) = mpsc::channel(LIVE_BATCHES_MAX);
        let end_lsn = *self.channels.recorded_end.borrow();
        let answer = GoneLive { recorded: self.recorded, end_lsn, batches };
        request.send(answer).is_ok().then_some(feed)
    }

    /// Nothing has settled for [`stall::STALL_MAX`]: the recorder waits no longer for the feed.
    pub(super) fn settlement_stalled(&mut self) {
        if self.recording.is_live() {
            tracing::warn!(
                event = "settling_stalled",
                "nothing settles; capturing changes meanwhile"
            );
        }
        self.stall.stall();
        self.recording = Recording::Holding;
    }

    fn take_in(&mut self, chunk: CapturedChunk) {
        self.assembler.push(chunk.items);
        self.memory.set(self.assembler.bytes());
    }

    /// Adds to a batch that is begun what has arrived meanwhile, up to its limits.
    fn fill_batch(&mut self) {
        if self.recording.is_holding() || self.assembler.is_empty() {
            return;
        }
        while self.assembler.wants_more() {
            match self.channels.changes.try_recv() {
                Ok(chunk) => self.take_in(chunk),
                Err(_) => return,
            }
        }
    }

    /// Takes the next batch, for which there is room; `None` if the feed has gone.
    pub(super) fn take_batch(&mut self, room: BatchRoom) -> Option<BatchToWrite> {
        let permit = match room {
            BatchRoom::Table => None,
            BatchRoom::Feed(permit) => Some(permit),
            BatchRoom::FeedGone => {
                self.recording = Recording::Holding;
                return None;
            }
        };
        let waiting = self.assembler.bytes();
        let mut batch = self.assembler.take();
        let left = self.assembler.bytes();
        if let Some((first, last)) = batch.changes.first().zip(batch.changes.last()) {
            let jobs = JobSet::Range { first: first.position, last: last.position };
            let is_live = permit.is_some();
            batch.hold = is_live.then(|| self.in_flight.hold(jobs));
            let feed = if is_live { "live" } else { "none" };
            batch.span = trace::batch(feed, batch.changes.len());
        }
        self.memory.set(left);
        batch.memory = Some(self.metrics.memory.hold(MemoryPart::Live, waiting - left));
        Some(BatchToWrite { batch, permit })
    }

    /// The batch is durable: publishes its end and hands it over.
    pub(super) fn batch_written(&mut self, written: BatchToWrite) {
        let BatchToWrite { batch, permit } = written;
        if let Some(last) = batch.changes.last() {
            self.recorded = last.position;
        }
        if let Some(end_lsn) = batch.end_lsn {
            self.channels.recorded_end.send_if_modified(|known| {
                let ahead = end_lsn > *known;
                *known = end_lsn.max(*known);
                ahead
            });
        }
        if let Some(permit) = permit {
            permit.send(batch);
        }
    }
}

impl Recorder {
    /// Writes one batch, for which there is room.
    async fn write(&mut self, room: BatchRoom) -> Result<(), QueueError> {
        let Some(mut to_write) = self.take_batch(room) else { return Ok(()) };
        let batch = &to_write.batch;
        if !batch.changes.is_empty() {
            let began = Instant::now();
            let span = trace::stage(Stage::Record, &batch.span);
            let write = self.storage.write(&batch.changes, to_write.status(), batch.end_lsn);
            self.metrics.waits.during(WaitName::Record, write).await?;
            drop(span);
            self.metrics.recorded(&batch.changes, began.elapsed());
        }
        to_write.batch.changes.iter_mut().for_each(Change::lighten);
        self.batch_written(to_write);
        Ok(())
    }
}

/// A batch that is about to be written.
#[derive(Debug)]
pub(super) struct BatchToWrite {
    pub(super) batch: Recorded,
    /// Its place in the live channel, if the feed gets it.
    permit: Option<OwnedPermit<Recorded>>,
}

impl BatchToWrite {
    /// The status of its jobs.
    pub(super) fn status(&self) -> Status {
        if self.permit.is_some() { Status::Processing } else { Status::Pending }
    }
}
