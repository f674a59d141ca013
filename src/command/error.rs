//! Why a command ends with another code than 0.

use std::io;

use super::healthcheck::HealthError;
use super::jobs::JobsError;
use super::operation::FollowError;
use super::rebuild::RebuildError;
use super::status::StatusError;
use crate::admin::operation::OperationError;
use crate::admin::record::error::RecordError;
use crate::api::auth::token::TokenError;
use crate::config::ConfigError;
use crate::engine::document::parse::DefinitionError;
use crate::engine::run::RunError;
use crate::postgres::ConnectError;
use crate::storage::QueueError;
use crate::storage::queue::maintain::MaintainError;
use crate::storage::schema::MigrateError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0} fault(s) in the environment, listed above with the SQL that mends them")]
    Faults(usize),
    #[error(transparent)]
    Maintain(#[from] MaintainError),
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Jobs(#[from] JobsError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("could not listen for signals or write to standard output")]
    System(#[from] io::Error),
}

impl CommandError {
    /// The process' exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Definition(_) => 2,
            Self::Connect(_)
            | Self::Faults(_)
            | Self::Maintain(_)
            | Self::Migrate(_)
            | Self::Queue(_) => 3,
            Self::Rebuild(error) => error.exit_code(),
            Self::Jobs(error) => error.exit_code(),
            Self::Record(error) => record_exit_code(error),
            Self::Operation(error) => operation_exit_code(error),
            Self::Follow(error) => follow_exit_code(error),
            Self::Run(error) => error.exit_code(),
            Self::Status(_) | Self::Health(_) | Self::Token(_) | Self::System(_) => 1,
        }
    }
}

const fn follow_exit_code(error: &FollowError) -> u8 {
    match error {
        FollowError::Operation(error) => operation_exit_code(error),
        FollowError::Keys { .. } => 2,
        FollowError::Queue(_) => 3,
        FollowError::Differences { .. } => 4,
        FollowError::Failed { .. }
        | FollowError::Cancelled { .. }
        | FollowError::Refused { .. }
        | FollowError::Output(_) => 1,
    }
}

const fn operation_exit_code(error: &OperationError) -> u8 {
    match error {
        OperationError::Record(error) => record_exit_code(error),
        OperationError::NoDocuments { .. }
        | OperationError::NoSuchName { .. }
        | OperationError::NoTable
        | OperationError::Condition { .. }
        | OperationError::Key { .. }
        | OperationError::Keys { .. }
        | OperationError::TooManyKeys { .. } => 2,
        OperationError::Unknown(_) | OperationError::State { .. } => 1,
        OperationError::Queue(_) | OperationError::Unread { .. } => 3,
    }
}

const fn record_exit_code(error: &RecordError) -> u8 {
    match error {
        RecordError::UnknownTable { .. } | RecordError::InvalidKey { .. } => 2,
        RecordError::UnknownKey { .. } => 1,
        RecordError::Inspect(_) | RecordError::Read(_) | RecordError::Pool(_) => 3,
    }
}
