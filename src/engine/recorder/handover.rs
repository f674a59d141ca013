//! What the recorder hands over to the feed.

use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::ack::in_flight::InFlightGuard;
use crate::ack::memory::MemoryHold;
use crate::change::{Change, Lsn, Position};

/// A batch that was written.
#[derive(Debug)]
pub struct Recorded {
    /// Keeps its jobs in flight while it waits for the feed.
    pub hold: Option<InFlightGuard>,
    /// Empty where only `end_lsn` passes through the stages, to keep its place in the order.
    pub changes: Vec<Change>,
    /// The end LSN of the last commit that this batch completes, or of a keepalive.
    pub end_lsn: Option<Lsn>,
    /// The trace span of the batch; none for an empty batch.
    pub span: Span,
    /// Counts the changes while they wait for the feed and are rendered.
    pub memory: Option<MemoryHold>,
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

/// The feed asks to go live.
pub type LiveRequest = oneshot::Sender<GoneLive>;
