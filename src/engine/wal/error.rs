//! The errors of the replication connection and of decoding, each with its disposition.
//!
//! Not here: the waits between attempts (`engine::run`), and the counter of failures
//! (`telemetry::metrics::source`).

use std::time::Duration;

use super::pgoutput::DecodeError;
use crate::postgres::catalog::table::LackingColumn;
use crate::postgres::{Disposition, Recovery, ServerError, TlsError, error};
use crate::telemetry::metrics::source::ReplicationFailure;

/// The replication connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("the replication connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("PostgreSQL closed the replication connection")]
    Closed,
    #[error("no answer on the replication connection within {0:?}; check host, port and firewall")]
    Timeout(Duration),
    #[error("PostgreSQL asks for a password and none is set; put one into DATABASE_URL")]
    PasswordMissing,
    #[error(
        "PostgreSQL asks for authentication method {0}, which walferry has not; \
         use scram-sha-256 in pg_hba.conf"
    )]
    Authentication(u32),
    #[error(
        "channel_binding=require, and PostgreSQL does not bind the channel; it takes TLS and \
         scram-sha-256 in pg_hba.conf"
    )]
    Unbound,
    #[error("PostgreSQL does not offer TLS; set ssl = on there, or sslmode=disable here")]
    TlsRefused,
    #[error("the TLS handshake failed: {0}; check sslmode and sslrootcert")]
    Handshake(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0} is a standby; connect to the primary")]
    Standby(String),
    #[error(
        "PostgreSQL does not find the publication and goes on without its changes; run \
         `walferry migrate` to create it, then `walferry rebuild`"
    )]
    PublicationSkipped,
    #[error("unexpected message instead of {0}; is there a pooler in between? connect directly")]
    Unexpected(&'static str),
    #[error("a message of {0} bytes is more than PostgreSQL sends")]
    TooLarge(usize),
}

impl Recovery for ReplicationError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Server(error) => error.disposition(),
            Self::Io(_) | Self::Closed | Self::Timeout(_) | Self::Standby(_) => Disposition::Retry,
            Self::PasswordMissing
            | Self::Authentication(_)
            | Self::Unbound
            | Self::TlsRefused
            | Self::Handshake(_)
            | Self::Tls(_)
            | Self::PublicationSkipped
            | Self::Unexpected(_)
            | Self::TooLarge(_) => Disposition::Operator,
        }
    }
}

impl ReplicationError {
    /// The server shuts down or is starting up ([`error::is_shutdown`]).
    #[must_use]
    pub fn is_shutdown(&self) -> bool {
        matches!(self, Self::Server(error) if error::is_shutdown(error.code()))
    }

    /// The label of the metric that counts it.
    #[must_use]
    pub fn failure(&self) -> ReplicationFailure {
        match self {
            Self::Io(_) | Self::Closed | Self::Timeout(_) => ReplicationFailure::Connection,
            Self::Server(_) | Self::Standby(_) | Self::PublicationSkipped => {
                ReplicationFailure::Server
            }
            Self::PasswordMissing
            | Self::Authentication(_)
            | Self::Unbound
            | Self::TlsRefused
            | Self::Handshake(_)
            | Self::Tls(_) => ReplicationFailure::Refused,
            Self::Unexpected(_) | Self::TooLarge(_) => ReplicationFailure::Protocol,
        }
    }
}

/// The messages do not form transactions. Data cannot cause this: the stream violates its
/// protocol.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TransactionError {
    #[error("the stream cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    #[error("a change names relation {0}, which the stream has not described")]
    UnknownRelation(u32),
    #[error("a row has {found} values, its relation {expected} columns")]
    ColumnCount { expected: usize, found: usize },
    #[error("a value is in binary format, which was not asked for")]
    Binary,
    #[error("message {0} came outside of a transaction")]
    Outside(&'static str),
    #[error("a transaction began inside another")]
    Inside,
}

/// The stream ended other than by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    #[error("{0}; this is a defect, please report it")]
    Transaction(#[from] TransactionError),
    #[error(transparent)]
    Lacking(#[from] LackingColumn),
    #[error("cannot look up a column's type: {0}")]
    Kinds(String),
    #[error("PostgreSQL was silent for {0:?} although asked; the network or the server is gone")]
    Silent(Duration),
    #[error("could not read what the WAL sender does: {0}")]
    Sender(String),
}

impl Recovery for StreamError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Replication(error) => error.disposition(),
            Self::Transaction(_) | Self::Lacking(_) => Disposition::Operator,
            Self::Kinds(_) | Self::Silent(_) | Self::Sender(_) => Disposition::Retry,
        }
    }
}

impl StreamError {
    /// The label of the metric that counts it.
    #[must_use]
    pub fn failure(&self) -> ReplicationFailure {
        match self {
            Self::Replication(error) => error.failure(),
            Self::Silent(_) => ReplicationFailure::Connection,
            Self::Lacking(_) | Self::Kinds(_) | Self::Sender(_) => ReplicationFailure::Server,
            Self::Transaction(_) => ReplicationFailure::Protocol,
        }
    }
}
