//! What is durable: the lease, positions, the audit log and the queue table with its migrations.
//!
//! Everything here works on connections that it is given, dedicated to it and with
//! `row_security = off`. Every transaction of a run locks the lease first. A future dropped half-way
//! leaves its transaction open, so the connection must be dropped with it.
//!
//! Not here: how a job's document is built, when to send it, and which LSN to acknowledge.

pub mod advisory;
pub mod audit;
pub mod control;
pub mod lease;
mod leased_transaction;
pub mod load_progress;
pub mod operation;
pub mod position;
pub mod queue;
pub mod schema;
pub mod source_identity;
pub(crate) mod sql;
pub mod verification;

pub use sql::widen_xid;

use crate::postgres::lock::LockError;
use crate::postgres::{Disposition, Recovery};

/// A queue operation did not happen; its transaction, if any, is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error(
        "the lease on slot {slot} is no longer ours (epoch {epoch}): another instance took over"
    )]
    LeaseLost { slot: String, epoch: i64 },
    #[error("slot {slot} has no stored position; it must be created before changes are recorded")]
    NoPosition { slot: String },
    #[error("position {next} is not past the stored one; the run must start again from {stored}")]
    NotAdvancing { next: crate::change::Position, stored: crate::change::Position },
    /// Without the server's text, which quotes row values.
    #[error("PostgreSQL refuses to {what} (SQLSTATE {code})")]
    Refused { what: &'static str, code: String },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("could not {what}")]
    Database {
        what: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
}

impl Recovery for QueueError {
    /// By the server's SQLSTATE. A lost lease and a position that does not advance end the run;
    /// the next one starts from what is durable.
    fn disposition(&self) -> Disposition {
        match self {
            Self::Database { source, .. } => source.disposition(),
            Self::Lock(error) => error.disposition(),
            Self::LeaseLost { .. }
            | Self::NoPosition { .. }
            | Self::NotAdvancing { .. }
            | Self::Refused { .. } => Disposition::Retry,
        }
    }
}

impl QueueError {
    /// Drops the server's text where it may quote a row: data exceptions, constraint violations
    /// and exceeded limits (SQLSTATE classes 22, 23, 54).
    pub(crate) fn from_server(what: &'static str, source: tokio_postgres::Error) -> Self {
        match source.code().map(|code| code.code()) {
            Some(code) if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => {
                Self::Refused { what, code: code.to_owned() }
            }
            _ => Self::Database { what, source },
        }
    }
}

/// For `map_err`: names what was being done.
pub(crate) fn doing(what: &'static str) -> impl Fn(tokio_postgres::Error) -> QueueError {
    move |source| QueueError::from_server(what, source)
}
