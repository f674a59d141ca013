//! The word under which a failure of the replication connection is counted.
//!
//! Not here: what is done about it (`class`), and the counter (`telemetry::metrics::source`).

use super::connection::ReplicationError;
use super::stream::StreamError;
use crate::telemetry::metrics::source::Failure;

impl ReplicationError {
    /// See the module's documentation.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::Io(_) | Self::Closed | Self::Timeout(_) => Failure::Connection,
            Self::Server(_) | Self::Standby(_) | Self::PublicationSkipped => Failure::Server,
            Self::PasswordMissing
            | Self::Authentication(_)
            | Self::TlsRefused
            | Self::Handshake(_)
            | Self::Tls(_) => Failure::Refused,
            Self::Unexpected(_) | Self::TooLarge(_) => Failure::Protocol,
        }
    }
}

impl StreamError {
    /// See the module's documentation.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::Replication(error) => error.failure(),
            Self::Silent(_) => Failure::Connection,
            Self::Kinds(_) => Failure::Server,
            Self::Transaction(_) => Failure::Protocol,
        }
    }
}
