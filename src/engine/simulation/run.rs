//! One run of the process, step by step: every task is a state machine that a schedule moves on.
//!
//! The recorder, the dispatcher of the sink, the watch over the sink, the retention guard, the list
//! of jobs in flight and the decision of the control plane are the product's. That a task waits for
//! something and then calls them is a model of their loops.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::begin::{begun_control, begun_progress, emitter, limits, metrics, recorder, sink_state};
use super::claims::ClaimModel;
use super::fanout::FanoutModel;
use super::feed::FeedModel;
use super::outside::Outside;
use super::sink::SinkLoop;
use super::stream::{CheckpointModel, Stream};
use crate::ack::in_flight::InFlight;
use crate::engine::control::{Control, FanoutSettlements, IndexingReport, RunConditions, decide};
use crate::engine::feed::control::FeedControl;
use crate::engine::recorder::recording::Recording;
use crate::engine::recorder::{BatchToWrite, Recorder, RecorderChannels};
use crate::engine::sink::state::{IndexStatus, ServiceStatus};
use crate::engine::supervisor::retention_guard::{HeldWal, RetentionGuard};
use crate::engine::supervisor::sink_watch::SinkWatch;

/// Between two samples of the supervisor, and between two passes of the rescue, in milliseconds.
const SAMPLE_EVERY: u64 = 1000;
const RESCUE_EVERY: u64 = 15_000;

/// The tasks of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Stream,
    Recorder,
    Feed,
    Sink,
    Checkpoint,
    Feedback,
    Supervisor,
    Rescue,
}

impl Task {
    pub(super) const ALL: [Self; 8] = [
        Self::Stream,
        Self::Recorder,
        Self::Feed,
        Self::Sink,
        Self::Checkpoint,
        Self::Feedback,
        Self::Supervisor,
        Self::Rescue,
    ];
}

/// A batch that is being written, and whether it is.
struct Writing {
    batch: BatchToWrite,
    is_written: bool,
}

/// One run.
pub(super) struct Run {
    stream: Stream,
    recorder: Option<Recorder<()>>,
    recorder_due: Option<u64>,
    writing: Option<Writing>,
    pub(super) feed: FeedModel,
    sink: Option<SinkLoop>,
    checkpoint: CheckpointModel,
    sink_watch: SinkWatch,
    service: watch::Receiver<ServiceStatus>,
    indices: watch::Receiver<Vec<IndexStatus>>,
    guard: RetentionGuard,
    is_sink_down: bool,
    halted: bool,
    sample_at: u64,
    rescue_at: u64,
    control: watch::Sender<Control>,
    in_flight: InFlight,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

fn name(recording: &Recording) -> String {
    match recording {
        Recording::Holding => "holding".to_owned(),
        Recording::Capturing(reason) => format!("capturing: {reason:?}"),
        Recording::Live(_) => "live".to_owned(),
    }
}

impl Run {
    /// A run that continues from what is stored.
    pub(super) fn new(outside: &mut Outside) -> Self {
        let metrics = metrics();
        let limits = limits(&mut outside.rng);
        outside.queue.begin_epoch();
        let start = outside.queue.recorded_end.max(outside.queue.settled);
        let settled = outside.queue.settled;
        outside.note(|| format!("run from {start}, settled {settled}"));
        let control = watch::Sender::new(begun_control(outside.queue.halted));
        let report = watch::Sender::new(IndexingReport::default());
        let recorded_end = watch::Sender::new(start);
        let progress = watch::Sender::new(begun_progress(settled));
        let (chunks, changes) = mpsc::channel(1);
        let (requests, live_requests) = mpsc::channel(1);
        let (settled_batches, settled) = mpsc::channel(256);
        let (commands, received) = mpsc::channel(256);
        let in_flight = InFlight::default();
        let wake = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let state = sink_state(&metrics);
        let channels = RecorderChannels {
            changes,
            requests: live_requests,
            recorded_end: recorded_end.clone(),
            control: control.subscribe(),
            indexing: report.subscribe(),
            progress: progress.subscribe(),
        };
        let recorder = recorder(outside, &limits, channels, in_flight.clone(), &metrics);
        let orders = control.subscribe();
        let woken = Arc::clone(&wake);
        let feed_control =
            FeedControl::new(report, orders, requests, woken, state.closed(), stop.clone());
        let emitter = emitter(commands, settled_batches.clone(), &metrics);
        let fanouts = watch::Sender::new(FanoutSettlements::default());
        let background = FanoutModel::new(fanouts.subscribe(), limits.fanout_rows_max, outside);
        let ends = recorded_end.subscribe();
        let epoch = outside.queue.epoch;
        let claims = ClaimModel::new(in_flight.clone(), outside.queue.recorded);
        Self {
            stream: Stream::new(chunks, start, outside),
            recorder: Some(recorder),
            recorder_due: None,
            writing: None,
            feed: FeedModel::new(feed_control, emitter, claims, ends.clone(), background, outside),
            sink_watch: SinkWatch::new(&state),
            service: state.service(),
            indices: state.indices(),
            sink: Some(SinkLoop::new(&limits, state, received, settled_batches, epoch)),
            checkpoint: CheckpointModel::new(settled, ends, control.subscribe(), progress, fanouts),
            guard: RetentionGuard::new(outside.unconfirmed_max),
            is_sink_down: false,
            halted: outside.queue.halted,
            sample_at: outside.now,
            rescue_at: outside.now + RESCUE_EVERY,
            control,
            in_flight,
            wake,
            stop,
        }
    }

    /// Takes one step of a task; false if it has none now.
    pub(super) fn step(&mut self, task: Task, outside: &mut Outside) -> bool {
        match task {
            Task::Stream => {
                let at = self.control.borrow().acknowledge_at;
                self.stream.step(at, outside)
            }
            Task::Recorder => self.step_recorder(outside),
            Task::Feed => {
                let has_room = self.sink.as_ref().is_some_and(SinkLoop::has_room);
                self.feed.step(has_room, outside)
            }
            Task::Sink => self.step_sink(outside),
            Task::Checkpoint => self.checkpoint.step(&self.stream, outside),
            Task::Feedback => self.checkpoint.feedback(&self.stream, outside),
            Task::Supervisor => self.supervise(outside),
            Task::Rescue => self.rescue(outside),
        }
    }

    fn step_recorder(&mut self, outside: &mut Outside) -> bool {
        let Some(recorder) = &mut self.recorder else { return false };
        match self.writing.take() {
            Some(Writing { batch, is_written: false }) => {
                let status = batch.status();
                let Outside { queue, source, now, .. } = outside;
                let written = &batch.batch;
                queue.record(source, &written.changes, status, written.end_lsn, *now);
                let count = written.changes.len();
                outside.note(|| format!("recorder: {count} as {status:?}"));
                self.writing = Some(Writing { batch, is_written: true });
                return true;
            }
            Some(Writing { batch, is_written: true }) => {
                recorder.batch_written(batch);
                return true;
            }
            None => {}
        }
        if self.stop.is_cancelled() {
            self.recorder = None;
            return true;
        }
        let now = outside.instant();
        let before = std::mem::discriminant(recorder.recording());
        let waits = recorder.turn(now);
        let entered = std::mem::discriminant(recorder.recording()) != before;
        if entered {
            outside.note(|| format!("recorder: {}", name(recorder.recording())));
        }
        let stall_limit = recorder.stall_limit().filter(|_| waits.settlement);
        let due = stall_limit.into_iter().chain(waits.start_deadline).min();
        self.recorder_due = due.map(|due| outside.milliseconds(due));
        if waits.settlement {
            if recorder.note_settlement(now) {
                return true;
            }
            if stall_limit.is_some_and(|limit| limit <= now) {
                outside.note(|| "recorder: settlement has stalled".to_owned());
                recorder.settlement_stalled();
                return true;
            }
        }
        if waits.has_batch {
            let Some(room) = recorder.room() else { return entered };
            self.writing =
                recorder.take_batch(room).map(|batch| Writing { batch, is_written: false });
            if self.writing.as_ref().is_some_and(|writing| writing.batch.batch.changes.is_empty()) {
                self.writing.iter_mut().for_each(|writing| writing.is_written = true);
            }
            return true;
        }
        (!waits.holding && recorder.receive()) || entered
    }

    fn step_sink(&mut self, outside: &mut Outside) -> bool {
        let Some(sink) = &mut self.sink else { return false };
        let moved = sink.step(outside);
        if !moved && self.feed.has_ended() && sink.is_finished() {
            self.sink = None;
            return true;
        }
        moved
    }

    fn supervise(&mut self, outside: &mut Outside) -> bool {
        let now = outside.instant();
        let is_sampled = outside.now >= self.sample_at;
        let limit = self.sink_watch.outage_limit();
        let has_changed = self.service.has_changed().unwrap_or(false)
            || self.indices.has_changed().unwrap_or(false);
        let is_due = !self.is_sink_down && limit.is_some_and(|limit| limit <= now);
        if !is_sampled && !has_changed && !is_due {
            return false;
        }
        self.service.mark_unchanged();
        self.indices.mark_unchanged();
        if is_sampled {
            self.sample_at = outside.now + SAMPLE_EVERY;
            let unconfirmed = outside.source.insert_lsn.0 - outside.source.confirmed.0;
            let held = HeldWal { unconfirmed, retained: unconfirmed, unsettled: unconfirmed };
            outside.guard_was_on |= self.guard.observe(held);
            self.halted = outside.queue.halted;
        }
        self.is_sink_down = self.sink_watch.is_down(now);
        let control = decide(RunConditions {
            operator_halt: self.halted,
            retention_guard: self.guard.is_on(),
            sink_down: self.is_sink_down,
        });
        let changed = |known: &mut Control| std::mem::replace(known, control) != control;
        if self.control.send_if_modified(changed) {
            outside.note(|| format!("supervisor: {control:?}"));
        }
        true
    }

    fn rescue(&mut self, outside: &mut Outside) -> bool {
        if outside.now < self.rescue_at {
            return false;
        }
        self.rescue_at = outside.now + RESCUE_EVERY;
        let rescued = outside.queue.rescue(outside.now, &self.in_flight.now());
        if rescued > 0 {
            outside.note(|| format!("rescue: {rescued}"));
            self.wake.notify_one();
        }
        true
    }

    /// An operator has made jobs pending.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Nothing more is taken; what is in flight may settle.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// The stages have ended one after the other, and everything is acknowledged that may be.
    pub(super) fn has_ended(&self) -> bool {
        self.recorder.is_none() && self.sink.is_none() && self.checkpoint.has_ended()
    }

    /// Whether changes go from the stream to the index without a detour.
    pub(super) fn is_live(&self) -> bool {
        let is_live = self.recorder.as_ref().is_some_and(|r| r.recording().is_live());
        is_live && self.feed.is_live() && !self.guard.is_on()
    }

    /// The process dies: requests on their way may still arrive.
    pub(super) fn crash(self, outside: &mut Outside) {
        self.sink.into_iter().for_each(|sink| sink.crash(outside));
    }

    /// When a task has something to do without another's doing.
    pub(super) fn next_due(&self, now: u64, outside: &Outside) -> u64 {
        let limit = self.sink_watch.outage_limit().map(|limit| outside.milliseconds(limit));
        let sink = self.sink.as_ref().and_then(|sink| sink.next_due(outside));
        let due = [self.recorder_due, Some(self.feed.wakes_at), limit, sink];
        let due = due.into_iter().flatten().chain([self.sample_at, self.rescue_at]);
        due.filter(|at| *at > now).min().unwrap_or(now + SAMPLE_EVERY)
    }
}
