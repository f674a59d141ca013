//! What the stream's loop tells those who look from time to time.
//!
//! Not here: what is counted for good (`telemetry::metrics::source`).

use std::sync::atomic::AtomicU64;

use crate::change::Lsn;

/// What the loop has seen, for those who look from time to time.
#[derive(Debug, Default)]
pub struct StreamStats {
    /// Highest LSN sent by the server.
    pub received_lsn: AtomicU64,
    /// What was last acknowledged.
    pub acknowledged_lsn: AtomicU64,
    /// The end of the WAL as the last keepalive told it.
    pub server_wal_end: AtomicU64,
    /// The end of the last commit with changes of ours.
    pub committed_lsn: AtomicU64,
    /// When the server was last heard, in milliseconds since 1970.
    pub last_message_at: AtomicU64,
    /// Feedback messages sent.
    pub feedbacks: AtomicU64,
}

impl StreamStats {
    /// For a stream from `start`, below which there may be changes of ours.
    #[must_use]
    pub fn starting_at(start: Lsn) -> Self {
        Self { committed_lsn: AtomicU64::new(start.0), ..Self::default() }
    }
}
