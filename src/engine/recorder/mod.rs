//! Writes every change into the queue table, and hands it to the feed while that is live.
//!
//! One batch is one transaction: the jobs and the position of the last of them. In live mode room
//! in the live channel is had *before* the jobs are written as `processing`, so that no job ever
//! has to be taken back. In capture mode jobs are written as `pending` and forgotten; the table is
//! their feed. While the feed works through the table and all is well, nothing is written: the
//! recorder is faster than any feed, and would keep it from ever meeting the stream.
//!
//! Not here: how a batch is written (`storage::queue::record`), when to stop being live (`supervisor`).

mod batch;
mod count;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Span;

pub use batch::Assembler;
pub use count::Counters;

use crate::ack::in_flight::{InFlight, InFlightGuard};
use crate::ack::job_set::JobSet;
use crate::change::{Change, Lsn, Position};
use crate::config::Limits;
use crate::engine::wal::Captured;
use crate::storage::QueueError;
use crate::storage::queue::record::Recorder as Storage;
use crate::storage::queue::settle::Progress;
use crate::storage::queue::status::Status;
use crate::telemetry::metrics;
use crate::telemetry::metrics::Stage;
use crate::telemetry::trace;

/// Batches on their way to the feed.
const LIVE_BATCHES_MAX: usize = 2;
/// How long Elasticsearch may take to answer before changes are captured without it.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// A batch that stands in the table as `processing`.
#[derive(Debug)]
pub struct Recorded {
    /// Its jobs are not stuck while it waits for the feed.
    pub hold: Option<InFlightGuard>,
    /// May be empty: then only `end_lsn` passes through, to keep its place in the order.
    pub changes: Vec<Change>,
    /// The end LSN of the last commit completed by this batch, or a keepalive's.
    pub end_lsn: Option<Lsn>,
    /// The batch on its way; nothing for an empty one. One that is only captured ends with it.
    pub span: Span,
}

/// The recorder's answer to a feed that has finished the table.
#[derive(Debug)]
pub struct GoneLive {
    /// All that the table holds of this slot is at or below it.
    pub recorded: Position,
    /// What may be acknowledged once all of it is settled.
    pub end_lsn: Lsn,
    /// Everything recorded from now on, until capture begins again.
    pub batches: mpsc::Receiver<Recorded>,
}

/// What the feed works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedMode {
    /// Elasticsearch has not answered yet.
    Starting,
    /// It answers, and its indices are being made ready.
    Preparing,
    /// Rows that were there before the slot.
    Load,
    /// Unfinished jobs of the table.
    Table,
    /// What the recorder hands over.
    Live,
}

impl FeedMode {
    /// For metrics and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Preparing => "preparing",
            Self::Load => "load",
            Self::Table => "table",
            Self::Live => "live",
        }
    }
}

/// The feed asks to go live.
pub type LiveRequest = oneshot::Sender<GoneLive>;

/// What the recorder works with.
pub struct Recorder {
    pub storage: Storage,
    pub limits: Limits,
    /// The position of the last change in the table.
    pub recorded: Position,
    /// Up to here the table holds everything; shared with the retention guard.
    pub recorded_end: watch::Sender<Lsn>,
    pub changes: mpsc::Receiver<Vec<Captured>>,
    pub requests: mpsc::Receiver<LiveRequest>,
    /// True while jobs must only be captured.
    pub capture_only: watch::Receiver<bool>,
    pub mode: watch::Receiver<FeedMode>,
    /// Jobs that are handed over are on it.
    pub alive: InFlight,
    /// Moves while anything settles.
    pub progress: watch::Receiver<Progress>,
    /// Nothing has settled for a while although the feed has work.
    pub stalled: bool,
    pub metrics: metrics::PipelineMetrics,
    pub counters: Counters,
}

/// A feed that settles nothing for this long is not waited for.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Runs until told to stop. What is not written by then is sent again.
///
/// # Errors
/// [`QueueError`], which ends the run: what was committed is known only after a new look.
pub async fn run(mut recorder: Recorder, stop: CancellationToken) -> Result<(), QueueError> {
    let mut assembler = Assembler::new(recorder.recorded, &recorder.limits);
    let mut live: Option<mpsc::Sender<Recorded>> = None;
    let mut waiting: Option<LiveRequest> = None;
    let patience = Instant::now() + START_PATIENCE;
    loop {
        if waiting.is_none() {
            waiting = recorder.requests.try_recv().ok();
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        if *recorder.capture_only.borrow() {
            live = None;
        } else if let Some(request) = waiting.take() {
            recorder.stalled = false;
            live = recorder.go_live(request);
        }
        if live.is_none() && recorder.holds(patience) {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = recorder.capture_only.changed() => if changed.is_err() { return Ok(()) },
                Some(request) = recorder.requests.recv() => waiting = Some(request),
                _ = recorder.mode.changed() => {}
                () = stall(&mut recorder.progress) => recorder.stalled = true,
                () = sleep_until(patience), if patience > Instant::now() => {}
            }
            continue;
        }
        if assembler.is_empty() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = recorder.capture_only.changed() => if changed.is_err() { return Ok(()) },
                Some(request) = recorder.requests.recv() => waiting = Some(request),
                chunk = recorder.changes.recv() => match chunk {
                    Some(chunk) => assembler.push(chunk),
                    None => return Ok(()),
                },
            }
            continue;
        }
        while assembler.wants_more() {
            match recorder.changes.try_recv() {
                Ok(chunk) => assembler.push(chunk),
                Err(_) => break,
            }
        }
        match recorder.record(&mut assembler, live.as_ref(), &stop).await? {
            Written::Yes => {}
            Written::NotLive => live = None,
            Written::Stopped => return Ok(()),
        }
    }
}

impl Recorder {
    /// Whether the stream waits for the feed rather than running ahead of it.
    fn holds(&self, patience: Instant) -> bool {
        !*self.capture_only.borrow()
            && !self.stalled
            && match *self.mode.borrow() {
                FeedMode::Starting => Instant::now() < patience,
                FeedMode::Load => false,
                FeedMode::Preparing | FeedMode::Table | FeedMode::Live => true,
            }
    }

    fn go_live(&mut self, request: LiveRequest) -> Option<mpsc::Sender<Recorded>> {
        let (sender, batches) = mpsc::channel(LIVE_BATCHES_MAX);
        let answer =
            GoneLive { recorded: self.recorded, end_lsn: *self.recorded_end.borrow(), batches };
        request.send(answer).is_ok().then_some(sender)
    }

    /// Writes one batch, once there is room for it where it is to be handed over.
    async fn record(
        &mut self,
        assembler: &mut Assembler,
        live: Option<&mpsc::Sender<Recorded>>,
        stop: &CancellationToken,
    ) -> Result<Written, QueueError> {
        let permit = match live {
            None => None,
            Some(sender) => tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Written::Stopped),
                _ = self.capture_only.wait_for(|only| *only) => return Ok(Written::NotLive),
                () = stall(&mut self.progress) => {
                    tracing::warn!(event = "settling_stalled", "nothing settles; capturing changes meanwhile");
                    self.stalled = true;
                    return Ok(Written::NotLive);
                }
                permit = sender.reserve() => match permit {
                    Ok(permit) => Some(permit),
                    Err(_) => return Ok(Written::NotLive),
                },
            },
        };
        let mut batch = assembler.take();
        if let Some((first, last)) = batch.changes.first().zip(batch.changes.last()) {
            let extent = JobSet::Range { first: first.position, last: last.position };
            batch.hold = permit.is_some().then(|| self.alive.hold(extent));
            let status = if permit.is_some() { Status::Processing } else { Status::Pending };
            let feed = if permit.is_some() { "live" } else { "none" };
            batch.span = trace::batch(feed, batch.changes.len());
            let (began, span) = (Instant::now(), trace::stage(Stage::Record, &batch.span));
            self.storage.write(&batch.changes, status, batch.end_lsn).await?;
            drop(span);
            self.metrics.stage(Stage::Record, began.elapsed());
            self.counters.count(&batch.changes);
            self.recorded = last.position;
        }
        if let Some(end_lsn) = batch.end_lsn {
            self.recorded_end.send_if_modified(|known| {
                let ahead = end_lsn > *known;
                *known = end_lsn.max(*known);
                ahead
            });
        }
        if let Some(permit) = permit {
            permit.send(batch);
        }
        Ok(Written::Yes)
    }
}

/// Returns once nothing has settled for [`STALL_MAX`].
async fn stall(progress: &mut watch::Receiver<Progress>) {
    while timeout(STALL_MAX, progress.changed()).await.is_ok_and(|moved| moved.is_ok()) {}
}

/// What became of the next batch.
enum Written {
    Yes,
    /// Live mode had to end first; the batch is still to be written.
    NotLive,
    /// Told to stop; what is not written is sent again.
    Stopped,
}
