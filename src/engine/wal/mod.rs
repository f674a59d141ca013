//! Reads the replication slot: from bytes to changes in the order of commit.
//!
//! ```text
//! socket ─► connection ─► stream ─► pgoutput ─► transaction ─► Captured
//!                           ▲ feedback: the position that may be acknowledged
//! ```
//!
//! This stage emits [`Captured`] items: changes of the configured tables as they arrive, the end of
//! each transaction with such changes, and marks of the stream's position between them.
//! `pgoutput`, `relation` and `transaction` are pure.
//!
//! Not here: which position may be acknowledged (`checkpoint`), and which changes are already
//! recorded (`recorder`).

mod authentication;
pub mod connection;
mod cut;
pub mod error;
mod feedback;
mod open;
pub mod pgoutput;
pub mod relation;
mod silence;
mod stats;
pub mod stream;
pub mod transaction;
mod wire;

pub use connection::{Replication, ReplicationStream};
pub use error::{ReplicationError, StreamError};
pub use relation::{StreamTable, Tables};
pub use stats::StreamStats;
pub use stream::{Ports, StreamSettings, run};

use crate::ack::memory::MemoryHold;
use crate::change::{Change, Lsn};

/// An item of the stream, in the order of commit.
#[derive(Clone, Debug)]
pub enum Captured {
    /// A row's change, or a table's TRUNCATE.
    Change(Change),
    /// The end of a transaction that had at least one change of a configured table.
    Commit {
        /// The commit LSN in the positions of the transaction's changes.
        commit_lsn: Lsn,
        /// The position that may be acknowledged once all of its changes are settled.
        end_lsn: Lsn,
        /// Microseconds since 1970-01-01 UTC.
        committed_at: i64,
    },
    /// The WAL below contains no further change of a configured table, and no transaction is in
    /// progress here.
    Idle { wal_end: Lsn },
}

/// Items that the stream hands over together.
#[derive(Debug, Default)]
pub struct CapturedChunk {
    pub items: Vec<Captured>,
    /// Counts them until the recorder does.
    _hold: Option<MemoryHold>,
}

impl CapturedChunk {
    /// Items that are counted by `hold` until the chunk is dropped.
    #[must_use]
    pub fn new(items: Vec<Captured>, hold: Option<MemoryHold>) -> Self {
        Self { items, _hold: hold }
    }
}

impl Captured {
    /// The size in memory, for the limits of chunks.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Change(change) => change.size(),
            Self::Commit { .. } | Self::Idle { .. } => size_of::<Self>(),
        }
    }
}
