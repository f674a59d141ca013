//! The bytes that the pipeline holds between the stream and the acknowledgement, by part, and the
//! limit for their sum.
//!
//! Each holder of rows, documents or batches reports their bytes. A task that would take in
//! more waits at the limit ([`Memory::room`]), before it holds anything itself, so that what is held
//! can always be worked off. A single row may pass the limit.
//!
//! Not here: what is held, and the limits of single parts (each stage).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A part of the pipeline that holds bytes, in the order of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryPart {
    /// Decoded changes on their way to the recorder.
    Stream,
    /// Changes that the recorder has not written.
    Recorder,
    /// Recorded batches on their way to the feed.
    Live,
    /// What fan-outs in the background rewrite, and for which jobs.
    Fanouts,
    /// Claimed jobs with their images.
    Claims,
    /// Rows of the last read.
    Rows,
    /// Rows that documents embed, kept for the next batches.
    Cache,
    /// Documents that were rendered ahead of the stream.
    ReadAhead,
    /// Documents without a verdict, with their references to jobs.
    Actions,
    /// Bodies of requests in flight.
    Requests,
    /// Batches that have not settled.
    Batches,
}

impl MemoryPart {
    /// All parts, in the order of the flow.
    pub const ALL: [Self; 11] = [
        Self::Stream,
        Self::Recorder,
        Self::Live,
        Self::Fanouts,
        Self::Claims,
        Self::Rows,
        Self::Cache,
        Self::ReadAhead,
        Self::Actions,
        Self::Requests,
        Self::Batches,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Recorder => "recorder",
            Self::Live => "live",
            Self::Fanouts => "fanouts",
            Self::Claims => "claims",
            Self::Rows => "rows",
            Self::Cache => "cache",
            Self::ReadAhead => "read_ahead",
            Self::Actions => "actions",
            Self::Requests => "requests",
            Self::Batches => "batches",
        }
    }
}

/// The accounting of one process. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: AtomicUsize,
    held: [AtomicUsize; MemoryPart::ALL.len()],
    /// Notified when bytes are released.
    released: Notify,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Memory {
    /// An empty account with this limit in bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Account {
            limit: AtomicUsize::new(limit),
            held: Default::default(),
            released: Notify::new(),
        }))
    }

    /// Sets the limit in bytes.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit.load(Ordering::Relaxed)
    }

    /// The bytes that a part holds.
    #[must_use]
    pub fn held(&self, part: MemoryPart) -> usize {
        self.0.held[part as usize].load(Ordering::Relaxed)
    }

    /// The bytes that a part and those after it hold.
    #[must_use]
    pub fn held_from(&self, part: MemoryPart) -> usize {
        MemoryPart::ALL.into_iter().filter(|other| *other >= part).map(|part| self.held(part)).sum()
    }

    /// Notes that `part` holds `bytes` more, until the hold is dropped or set.
    pub fn hold(&self, part: MemoryPart, bytes: usize) -> MemoryHold {
        let mut hold = MemoryHold { memory: self.clone(), part, bytes: 0 };
        hold.set(bytes);
        hold
    }

    /// Whether `part` may take in more: it and those after it are below the limit. What is held before
    /// it does not count, since that may wait for this part.
    #[must_use]
    pub fn has_room(&self, part: MemoryPart) -> bool {
        self.held_from(part) < self.limit()
    }

    /// Waits until `part` may take in more. Cancel safe.
    pub async fn room(&self, part: MemoryPart) {
        loop {
            let mut released = std::pin::pin!(self.0.released.notified());
            released.as_mut().enable();
            if self.has_room(part) {
                return;
            }
            released.await;
        }
    }
}

/// Bytes that a part holds until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct MemoryHold {
    memory: Memory,
    part: MemoryPart,
    bytes: usize,
}

impl MemoryHold {
    /// The part holds this many bytes instead.
    pub fn set(&mut self, bytes: usize) {
        let held = &self.memory.0.held[self.part as usize];
        if bytes >= self.bytes {
            held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
            self.bytes = bytes;
            return;
        }
        held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        self.bytes = bytes;
        self.memory.0.released.notify_waiters();
    }

    /// The part holds this many bytes more.
    pub fn add(&mut self, bytes: usize) {
        self.set(self.bytes + bytes);
    }

    /// Takes over what another hold of the same part holds.
    pub fn merge(&mut self, mut other: Self) {
        debug_assert_eq!(self.part, other.part);
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_held_is_released_once() {
        let memory = Memory::new(100);
        let mut a = memory.hold(MemoryPart::Actions, 10);
        let b = memory.hold(MemoryPart::Actions, 5);
        a.add(20);
        assert_eq!(memory.held(MemoryPart::Actions), 35);
        a.merge(b);
        assert_eq!(memory.held(MemoryPart::Actions), 35);
        a.set(1);
        assert_eq!(memory.held(MemoryPart::Actions), 1);
        drop(a);
        assert_eq!(memory.held_from(MemoryPart::Stream), 0);
    }

    #[test]
    fn a_part_waits_for_itself_and_for_those_after_it() {
        let memory = Memory::new(100);
        let _before = memory.hold(MemoryPart::Recorder, 1000);
        assert!(memory.room(MemoryPart::Claims).now_or_never().is_some());
        assert!(memory.room(MemoryPart::Stream).now_or_never().is_none());
        let mut after = memory.hold(MemoryPart::Batches, 100);
        let mut room = Box::pin(memory.room(MemoryPart::Claims));
        assert!(room.as_mut().now_or_never().is_none());
        after.set(99);
        assert!(room.now_or_never().is_some());
    }
}
