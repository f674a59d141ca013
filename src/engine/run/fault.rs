//! What ends a run: a fault that passes, or a fault that an operator must repair.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use crate::engine::document::parse::DefinitionError;
use crate::postgres::error::sentence;
use crate::postgres::{Disposition, Recovery};

/// Why walferry stops for good.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("could not listen on {address}; choose another port with WALFERRY_LISTEN")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the HTTP server ended")]
    Serve(#[source] io::Error),
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// PostgreSQL or Elasticsearch needs an operator.
    #[error("{0}")]
    Environment(String),
}

impl RunError {
    /// The process' exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Serve(_) => 1,
            Self::Definition(_) => 2,
            Self::Listen { .. } | Self::Environment(_) => 3,
        }
    }
}

/// Why a run ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It may pass by itself: a new run starts after a wait.
    #[error("{0}")]
    Passing(String),
    /// It does not pass: the process ends.
    #[error(transparent)]
    Permanent(RunError),
}

impl<E: Recovery + 'static> From<E> for Fault {
    fn from(error: E) -> Self {
        match error.disposition() {
            Disposition::Retry => Self::Passing(sentence(&error)),
            Disposition::Operator => Self::Permanent(RunError::Environment(sentence(&error))),
        }
    }
}

impl Fault {
    /// A fault that may pass, of an error that defines no disposition.
    pub(super) fn passing(error: &(dyn Error + 'static)) -> Self {
        Self::Passing(sentence(error))
    }
}
