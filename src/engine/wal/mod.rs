//! The slot, from bytes to changes in the order of commit.
//!
//! ```text
//! socket ─► connection ─► stream ─► pgoutput ─► transaction ─► Captured
//!                           ▲ feedback: what may be acknowledged
//! ```
//!
//! What leaves this stage is [`Captured`]: changes of the configured tables as they arrive, the
//! end of each transaction that had any, and marks of how far the stream is without them.
//! `pgoutput`, `relation` and `transaction` are pure.
//!
//! Not here: which position may be acknowledged (`checkpoint`), and what is already recorded
//! (`queue`).

mod authentication;
pub mod connection;
pub mod error;
mod feedback;
mod open;
pub mod pgoutput;
pub mod relation;
mod stats;
pub mod stream;
pub mod transaction;
mod wire;

pub use connection::{Replication, ReplicationStream};
pub use error::{ReplicationError, StreamError};
pub use relation::Tables;
pub use stats::StreamStats;
pub use stream::{Ports, StreamSettings, run};

use crate::change::{Change, Lsn};

/// What the stream yields, in the order of commit.
#[derive(Clone, Debug)]
pub enum Captured {
    /// A row's change, or a table's TRUNCATE.
    Change(Change),
    /// The end of a transaction that had at least one change of a configured table.
    Commit {
        /// What the transaction's changes carry in their positions.
        commit_lsn: Lsn,
        /// What may be acknowledged once all of it is settled.
        end_lsn: Lsn,
        /// Microseconds since 1970-01-01 UTC.
        committed_at: i64,
    },
    /// Everything below is known to hold nothing more of ours; no transaction is open here.
    Idle { wal_end: Lsn },
}

impl Captured {
    /// Bytes held in memory: what chunk limits count.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Change(change) => change.size(),
            Self::Commit { .. } | Self::Idle { .. } => size_of::<Self>(),
        }
    }
}
