//! Why a record could not be read or re-synced.

use uuid::Uuid;

use crate::admin::pool::PoolError;
use crate::engine::feed::inspect::InspectError;
use crate::engine::feed::render::read::ReadError;
use crate::storage::QueueError;

/// A record is neither read nor re-synced.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("there is no table {table} in the definition; there are {known}")]
    UnknownTable { table: String, known: String },
    #[error("{key:?} is not a key of table {table}; write {expected}")]
    InvalidKey { table: String, key: String, expected: String },
    #[error(
        "no job tells which row of table {table} record {record_id} stands for; give the row's key"
    )]
    UnknownKey { table: String, record_id: Uuid },
    /// A table of the definition does not exist, or the catalog cannot be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl From<QueueError> for RecordError {
    fn from(error: QueueError) -> Self {
        Self::Pool(error.into())
    }
}
