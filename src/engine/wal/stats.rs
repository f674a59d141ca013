//! The current state of the stream, for health checks and supervision.
//!
//! Not here: the metrics (`telemetry::metrics::source`).

use std::sync::atomic::AtomicU64;

use crate::change::Lsn;

/// The current state of the stream's loop.
#[derive(Debug, Default)]
pub struct StreamStats {
    /// The highest LSN that the server has sent.
    pub received_lsn: AtomicU64,
    /// The LSN acknowledged last.
    pub acknowledged_lsn: AtomicU64,
    /// The end of the WAL according to the last keepalive.
    pub server_wal_end: AtomicU64,
    /// The end of the last commit with changes of configured tables.
    pub committed_lsn: AtomicU64,
    /// The time of the server's last message, in milliseconds since 1970.
    pub last_message_at: AtomicU64,
    /// The number of feedback messages sent.
    pub feedbacks: AtomicU64,
}

impl StreamStats {
    /// The state of a stream from `start`, below which a commit may have changed configured tables.
    #[must_use]
    pub fn starting_at(start: Lsn) -> Self {
        Self { committed_lsn: AtomicU64::new(start.0), ..Self::default() }
    }
}
