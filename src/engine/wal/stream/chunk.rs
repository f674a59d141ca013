//! The captured items that the loop collects before it sends them on.

use tokio::sync::mpsc;

use crate::ack::memory::{Memory, MemoryHold, MemoryPart};
use crate::change::CutValues;
use crate::engine::control::AcknowledgeAt;
use crate::engine::wal::{Captured, CapturedChunk};

/// The limits of the loop.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// Bytes of WAL without changes of configured tables after which [`Captured::Idle`] is emitted;
    /// 0 emits it for every advance. Storing the position writes WAL itself, so a low value would
    /// cause one store after the other.
    pub idle_step: u64,
    /// Items in one chunk.
    pub chunk_items_max: usize,
    /// Bytes of row text in one chunk. A single row may be larger.
    pub chunk_bytes_max: usize,
    /// Bytes of a row's text above which its large values are replaced by their size and hash.
    pub row_bytes_max: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            idle_step: 1 << 20,
            chunk_items_max: 2048,
            chunk_bytes_max: 1 << 20,
            row_bytes_max: CutValues::ROW_BYTES_MAX,
        }
    }
}

impl StreamSettings {
    /// The step while changes are acknowledged at this point. Under the retention guard each part
    /// of the WAL counts, and what storing a position writes is still less than the step.
    pub(super) fn idle_step_at(&self, at: AcknowledgeAt) -> u64 {
        match at {
            AcknowledgeAt::Settled => self.idle_step,
            AcknowledgeAt::Recorded => self.idle_step / 16,
        }
    }
}

/// The items to send next.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) items: Vec<Captured>,
    bytes: usize,
    memory: Memory,
    hold: MemoryHold,
}

impl Chunk {
    pub(super) fn new(memory: Memory) -> Self {
        let hold = memory.hold(MemoryPart::Stream, 0);
        Self { items: Vec::new(), bytes: 0, memory, hold }
    }

    /// Counts items that were added.
    pub(super) fn note_added(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.hold.set(self.bytes);
    }

    pub(super) fn is_full(&self, settings: &StreamSettings) -> bool {
        self.items.len() >= settings.chunk_items_max || self.bytes >= settings.chunk_bytes_max
    }

    /// Sends the items once the channel has capacity; false if the channel is closed. Cancel safe.
    pub(super) async fn send(&mut self, output: &mpsc::Sender<CapturedChunk>) -> bool {
        if self.items.is_empty() {
            output.closed().await;
            return false;
        }
        let Ok(permit) = output.reserve().await else { return false };
        self.bytes = 0;
        let hold = std::mem::replace(&mut self.hold, self.memory.hold(MemoryPart::Stream, 0));
        // The next chunk is often as long.
        let next = Vec::with_capacity(self.items.len());
        permit.send(CapturedChunk::new(std::mem::replace(&mut self.items, next), Some(hold)));
        true
    }
}
