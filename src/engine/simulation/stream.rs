//! The stream of one run, and the checkpoint that acknowledges it, step by step.
//!
//! What may be acknowledged is decided by the product's `Watermark` and `acknowledge`; that it is
//! settled first and published afterwards is a model of `checkpoint` and `wal::stream`.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::oracle;
use super::outside::Outside;
use super::queue::{Settled, SettledBatch};
use super::render::DOCUMENTS;
use crate::ack::batch::PendingBatch;
use crate::change::{Change, Lsn};
use crate::engine::checkpoint::acknowledge::{StreamPositions, acknowledge};
use crate::engine::checkpoint::watermark::Watermark;
use crate::engine::control::{AcknowledgeAt, Control, FanoutSettlements, SettlementProgress};
use crate::engine::wal::{Captured, CapturedChunk};

/// Idle marks are this far apart, in bytes.
const IDLE_STEP: u64 = 128;
/// Items in one chunk.
const CHUNK_MAX: usize = 4;

/// The stream of one run.
pub(super) struct Stream {
    chunks: mpsc::Sender<CapturedChunk>,
    transaction: usize,
    change: usize,
    emitted: Lsn,
    received: Lsn,
}

impl Stream {
    /// The server sends every transaction whose commit is not below the start.
    pub(super) fn new(chunks: mpsc::Sender<CapturedChunk>, start: Lsn, outside: &Outside) -> Self {
        let confirmed = outside.source.confirmed;
        assert!(confirmed <= start, "the slot at {confirmed} is past the stored position {start}");
        let transactions = &outside.source.transactions;
        let transaction = transactions.partition_point(|t| t.commit_lsn < start);
        let change = transactions.get(transaction).map_or(0, |t| t.changes.start);
        Self { chunks, transaction, change, emitted: start, received: start }
    }

    /// Sends one chunk; false if nothing is there to be sent, or no room.
    pub(super) fn step(&mut self, at: AcknowledgeAt, outside: &mut Outside) -> bool {
        if self.chunks.capacity() == 0 || self.chunks.is_closed() {
            return false;
        }
        let mut chunk = Vec::new();
        for _ in 0..outside.rng.usize(1..=CHUNK_MAX) {
            chunk.extend(self.next(at, outside));
        }
        if chunk.is_empty() {
            return false;
        }
        outside.note(|| format!("stream: {} items up to {}", chunk.len(), self.emitted));
        self.chunks.try_send(CapturedChunk::new(chunk, None)).expect("there is room");
        true
    }

    fn next(&mut self, at: AcknowledgeAt, outside: &Outside) -> Option<Captured> {
        let source = &outside.source;
        let Some(transaction) = source.transactions.get(self.transaction) else {
            return self.idle(at, source.insert_lsn);
        };
        let commit_lsn = transaction.commit_lsn;
        self.received = self.received.max(commit_lsn);
        if let Some(change) = source.changes.get(self.change)
            && self.change < transaction.changes.end
        {
            self.change += 1;
            return Some(Captured::Change(Change {
                position: change.position,
                xid: 0,
                committed_at: 0,
                table: DOCUMENTS,
                operation: change.operation,
                old: None,
                new: None,
                incomplete: false,
                note: None,
            }));
        }
        let end_lsn = transaction.end_lsn;
        self.transaction += 1;
        self.received = self.received.max(end_lsn);
        self.emitted = end_lsn;
        Some(Captured::Commit { commit_lsn, end_lsn, committed_at: 0 })
    }

    fn idle(&mut self, at: AcknowledgeAt, wal_end: Lsn) -> Option<Captured> {
        self.received = self.received.max(wal_end);
        let step = if at == AcknowledgeAt::Recorded { 1 } else { IDLE_STEP };
        if wal_end.0 < self.emitted.0 + step {
            return None;
        }
        self.emitted = wal_end;
        Some(Captured::Idle { wal_end })
    }
}

/// A settlement under way.
enum SettlingAs {
    None,
    /// Collected, not written.
    Collected(Vec<Arc<PendingBatch>>),
    /// Written, not published.
    Written(Vec<Arc<PendingBatch>>, Settled),
    /// The recorded end is to be stored before it is acknowledged.
    ToStore(Lsn),
    Stored(Lsn),
}

/// The checkpoint of one run.
pub(super) struct CheckpointModel {
    pub(super) settled: mpsc::Receiver<Arc<PendingBatch>>,
    pub(super) recorded_end: watch::Receiver<Lsn>,
    pub(super) control: watch::Receiver<Control>,
    pub(super) progress: watch::Sender<SettlementProgress>,
    fanouts: watch::Sender<FanoutSettlements>,
    watermark: Watermark,
    settlement: SettlingAs,
    durable: Lsn,
}

impl CheckpointModel {
    pub(super) fn new(
        settled: mpsc::Receiver<Arc<PendingBatch>>,
        recorded_end: watch::Receiver<Lsn>,
        control: watch::Receiver<Control>,
        progress: watch::Sender<SettlementProgress>,
        fanouts: watch::Sender<FanoutSettlements>,
    ) -> Self {
        let durable = progress.borrow().settled;
        let watermark = Watermark::default();
        let settlement = SettlingAs::None;
        Self { settled, recorded_end, control, progress, fanouts, watermark, settlement, durable }
    }

    /// Nothing is left to be settled, and nothing can come.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.settlement, SettlingAs::None)
            && self.settled.is_closed()
            && self.settled.is_empty()
    }

    /// Takes one step; false if there is none now.
    pub(super) fn step(&mut self, received: &Stream, outside: &mut Outside) -> bool {
        match std::mem::replace(&mut self.settlement, SettlingAs::None) {
            SettlingAs::None => return self.begin(received, outside),
            SettlingAs::Collected(batches) => {
                let counts = self.write(&batches, outside);
                self.settlement = SettlingAs::Written(batches, counts);
            }
            SettlingAs::Written(batches, counts) => {
                drop(batches);
                let position = self.watermark.position().unwrap_or_default();
                self.progress.send_modify(|known| {
                    known.settled = known.settled.max(position);
                    known.completed += counts.completed;
                    known.failed += counts.failed;
                });
                self.fanouts.send_modify(|known| {
                    known.begun += counts.begun;
                    known.chunks += counts.chunks;
                });
            }
            SettlingAs::ToStore(lsn) => {
                outside.queue.recorded_end = outside.queue.recorded_end.max(lsn);
                self.settlement = SettlingAs::Stored(lsn);
            }
            SettlingAs::Stored(lsn) => self.publish(lsn, outside),
        }
        true
    }

    fn begin(&mut self, stream: &Stream, outside: &mut Outside) -> bool {
        let mut batches = Vec::new();
        while let Ok(batch) = self.settled.try_recv() {
            batches.push(batch);
        }
        if !batches.is_empty() {
            self.settlement = SettlingAs::Collected(batches);
            return true;
        }
        let positions = StreamPositions {
            recorded: *self.recorded_end.borrow(),
            settled: self.progress.borrow().settled,
            acknowledged: self.durable,
            received: stream.received,
        };
        let decision = acknowledge(positions, self.control.borrow().acknowledge_at);
        match decision.store_first {
            Some(lsn) => self.settlement = SettlingAs::ToStore(lsn),
            None if decision.lsn > self.durable => self.publish(decision.lsn, outside),
            None => return false,
        }
        true
    }

    fn write(&mut self, batches: &[Arc<PendingBatch>], outside: &mut Outside) -> Settled {
        let settled: Vec<SettledBatch> = batches
            .iter()
            .map(|pending| SettledBatch {
                descriptor: pending.descriptor().clone(),
                unfinished: pending.take_unfinished(),
                begun: pending.take_begun(),
            })
            .collect();
        settled.iter().for_each(|batch| self.watermark.settle(&batch.descriptor));
        let position = self.watermark.position();
        let now = outside.now;
        let Outside { queue, index, source, .. } = outside;
        let counts = queue.settle(settled, position, now, |job| {
            oracle::assert_indexed(job, source, index);
        });
        outside.parked += counts.parked;
        outside.note(|| format!("checkpoint: {counts:?} up to {position:?}"));
        counts
    }

    fn publish(&mut self, lsn: Lsn, outside: &mut Outside) {
        self.durable = lsn;
        outside.note(|| format!("checkpoint: {lsn} may be acknowledged"));
    }

    /// Sends what may be acknowledged to the server; false if it has it.
    pub(super) fn feedback(&mut self, received: &Stream, outside: &mut Outside) -> bool {
        let durable = self.durable;
        if durable <= outside.source.confirmed {
            return false;
        }
        assert!(durable <= received.received, "{durable} was not received");
        outside.source.confirmed = durable;
        oracle::assert_acknowledged(outside);
        true
    }
}
