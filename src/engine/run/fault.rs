//! What ends a run: a fault that passes, or a fault that an operator must repair.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use crate::engine::document::parse::DefinitionError;
use crate::postgres::{Class, fault};

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

impl Fault {
    pub(super) fn permanent(error: &dyn Error) -> Self {
        Self::Permanent(RunError::Environment(chain(error)))
    }

    pub(super) fn passing(error: &dyn Error) -> Self {
        Self::Passing(chain(error))
    }

    /// Judges by the SQLSTATE at the end of the error's chain; passing where there is none.
    pub(super) fn judge(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(current) = cause {
            if let Some(source) = current.downcast_ref::<tokio_postgres::Error>()
                && source.as_db_error().is_some()
                && fault::class(source) == Class::Permanent
            {
                return Self::permanent(error);
            }
            cause = current.source();
        }
        Self::passing(error)
    }
}

/// The sentence of an error and of each of its causes, once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let sentence = match current.downcast_ref::<tokio_postgres::Error>() {
            Some(source) => fault::sentence(source),
            None => current.to_string(),
        };
        if !text.contains(&sentence) {
            text.push_str(": ");
            text.push_str(&sentence);
        }
        if current.is::<tokio_postgres::Error>() {
            break;
        }
        cause = current.source();
    }
    text
}
