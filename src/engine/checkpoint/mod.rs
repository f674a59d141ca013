//! Writes the fate of jobs, and publishes the LSN that may be acknowledged.
//!
//! Batches that have settled since the last settlement are completed in one transaction together
//! with the position that they add up to. Only what has been committed is published.
//!
//! Not here: the statements (`storage::queue::settle`), and the sending of acknowledgements
//! (`engine::wal::stream`).

pub mod acknowledge;
mod settlement_metrics;
pub mod watermark;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::ack::batch::{
    BatchDescriptor, ChunkPurpose, Failure, LoadedChunk, PendingBatch, Unfinished,
};
use crate::change::Lsn;
pub use crate::engine::checkpoint::settlement_metrics::SettlementMetrics;
use crate::engine::control::{AcknowledgeAt, Control, FanoutSettlements, SettlementProgress};
use crate::engine::wal::StreamStats;
use crate::storage::QueueError;
use crate::storage::queue::settle::Settler;
use crate::telemetry::trace;
use crate::telemetry::waits::WaitName;
use acknowledge::{StreamPositions, acknowledge};
use watermark::Watermark;

/// Batches completed in one transaction.
const BATCHES_MAX: usize = 64;
/// The received position moves without a signal: a decision that it limited is made again.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// The checkpoint's ends of the channels of the run.
pub struct CheckpointChannels {
    /// Batches whose last reference has been returned.
    pub settled: mpsc::Receiver<Arc<PendingBatch>>,
    /// Up to here the table holds every change.
    pub recorded_end: watch::Receiver<Lsn>,
    pub control: watch::Receiver<Control>,
    pub progress: watch::Sender<SettlementProgress>,
    pub fanouts: watch::Sender<FanoutSettlements>,
    /// The LSN that may be acknowledged.
    pub durable: watch::Sender<Lsn>,
}

/// What the stream has received.
pub struct ReceivedPosition {
    /// Where the stream began: everything below counts as received.
    pub start: Lsn,
    pub stats: Arc<StreamStats>,
}

impl ReceivedPosition {
    fn lsn(&self) -> Lsn {
        self.start.max(Lsn(self.stats.received_lsn.load(Ordering::Acquire)))
    }
}

/// Settles the batches of one run.
pub struct Checkpoint {
    settler: Settler,
    watermark: Watermark,
    channels: CheckpointChannels,
    received: ReceivedPosition,
    metrics: SettlementMetrics,
}

impl Checkpoint {
    /// A checkpoint that has settled nothing yet.
    #[must_use]
    pub fn new(
        settler: Settler,
        channels: CheckpointChannels,
        received: ReceivedPosition,
        metrics: SettlementMetrics,
    ) -> Self {
        Self { settler, watermark: Watermark::default(), channels, received, metrics }
    }
}

/// Runs until the channel of settled batches closes.
///
/// # Errors
/// [`QueueError`], which ends the run.
pub async fn run(mut checkpoint: Checkpoint) -> Result<(), QueueError> {
    let mut batches = Vec::with_capacity(BATCHES_MAX);
    let mut tick = interval(PUBLISH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checkpoint.publish_durable().await?;
        let channels = &mut checkpoint.channels;
        let at = channels.control.borrow().acknowledge_at;
        tokio::select! {
            biased;
            count = channels.settled.recv_many(&mut batches, BATCHES_MAX) => {
                if count == 0 {
                    return Ok(());
                }
                checkpoint.settle(std::mem::take(&mut batches)).await?;
            }
            Ok(()) = channels.control.changed() => {}
            Ok(()) = channels.recorded_end.changed(), if at == AcknowledgeAt::Recorded => {}
            _ = tick.tick() => {}
        }
    }
}

impl Checkpoint {
    /// Writes the fate of these batches and publishes the progress.
    async fn settle(&mut self, batches: Vec<Arc<PendingBatch>>) -> Result<(), QueueError> {
        let mut settled: Vec<(BatchDescriptor, Unfinished)> = batches
            .iter()
            .map(|pending| (pending.descriptor().clone(), pending.take_unfinished()))
            .collect();
        let mut fanouts = FanoutSettlements::default();
        for ((descriptor, unfinished), pending) in settled.iter_mut().zip(&batches) {
            descriptor.fanouts.begun = pending.take_begun();
            fanouts.begun += descriptor.fanouts.begun.len() as u64;
            fanouts.chunks += u64::from(descriptor.fanouts.chunk.is_some());
            if let Some(chunk) = &mut descriptor.loaded {
                log_refused_rows(chunk, &unfinished.failures);
                chunk.leave(std::mem::take(unfinished));
            }
            self.watermark.settle(descriptor);
        }
        let position = self.watermark.position();
        let loaded = self.watermark.take_loaded();
        self.metrics.latencies(&batches);
        let began = Instant::now();
        let span = trace::settle(batches.iter().map(|pending| pending.batch()), position);
        let settle = self.settler.settle(&settled, position, &loaded);
        let counts = self.metrics.waits().during(WaitName::Settle, settle).await?;
        trace::settled(&span, counts.completed, counts.failed);
        drop(span);
        self.metrics.settled(counts, &loaded, began.elapsed());
        self.metrics.fanouts(&settled);
        // Until here, where their fate is durable, their jobs count as in flight.
        drop(batches);
        self.channels.progress.send_modify(|known| {
            known.settled = known.settled.max(position.unwrap_or_default());
            known.completed += counts.completed;
            known.failed += counts.failed;
        });
        self.channels.fanouts.send_if_modified(|known| {
            known.begun += fanouts.begun;
            known.chunks += fanouts.chunks;
            fanouts != FanoutSettlements::default()
        });
        Ok(())
    }

    /// Publishes what may be acknowledged. A recorded end that it rests on is stored before.
    async fn publish_durable(&mut self) -> Result<(), QueueError> {
        let at = self.channels.control.borrow_and_update().acknowledge_at;
        let positions = StreamPositions {
            recorded: *self.channels.recorded_end.borrow_and_update(),
            settled: self.channels.progress.borrow().settled,
            acknowledged: *self.channels.durable.borrow(),
            // Read last, so that it is not behind what was recorded.
            received: self.received.lsn(),
        };
        let decision = acknowledge(positions, at);
        if let Some(recorded_end) = decision.store_first {
            let raise = self.settler.raise_recorded_end(recorded_end);
            self.metrics.waits().during(WaitName::Settle, raise).await?;
        }
        let lsn = decision.lsn;
        self.channels.durable.send_if_modified(|known| std::mem::replace(known, lsn) != lsn);
        Ok(())
    }
}

/// Refused rows of the first load, or of an operation, become failed jobs when the progress of their
/// chunk is written.
fn log_refused_rows(chunk: &LoadedChunk, failures: &[Failure]) {
    for failure in failures {
        let error = &failure.error;
        match chunk.purpose {
            ChunkPurpose::Load => tracing::error!(
                event = "load_document_refused",
                error,
                "document of the first load was refused"
            ),
            ChunkPurpose::Backfill(operation) => tracing::error!(
                event = "backfill_document_refused",
                operation,
                error,
                "document of a backfill was refused"
            ),
            ChunkPurpose::Repair(operation) => tracing::error!(
                event = "verify_document_refused",
                operation,
                error,
                "document of a verification was refused"
            ),
        }
    }
}
