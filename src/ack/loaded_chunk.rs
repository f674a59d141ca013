//! A chunk of rows that are rendered without jobs: those of the first load and of operations. Pure.
//!
//! Not here: reading and sending the rows (`engine::feed::source`).

use std::sync::Arc;

use uuid::Uuid;

use super::job_set::JobKey;
use super::unfinished::{IndexWait, Unfinished};

/// How far the first load of a table, or an operation on it, has come once a batch settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedChunk {
    /// `schema.name` of the table.
    pub table: String,
    /// The word for the table in `table_name`.
    pub table_name: String,
    /// The JSON text of the last key read (an array of the key's columns); `None` when the table
    /// is finished.
    pub last_key: Option<String>,
    pub row_count: u64,
    /// The rows of the chunk, by the number in [`JobKey::Loaded`].
    pub rows: Arc<[LoadedRow]>,
    /// What the rows are read for.
    pub purpose: ChunkPurpose,
    /// The rows whose documents Elasticsearch refused; known once the batch has settled.
    pub refused: Vec<RefusedRow>,
    /// The rows of which a document waits for an index; known once the batch has settled.
    pub parked: Vec<ParkedRow>,
}

/// What a chunk of rows without jobs is read for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChunkPurpose {
    /// The first load.
    #[default]
    Load,
    /// A backfill, by the number of its operation.
    Backfill(i64),
    /// What a verification has found to differ, by the number of its operation, which has its own
    /// progress.
    Repair(i64),
}

/// A row without a job, of which a document waits for an index that takes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRow {
    pub row: LoadedRow,
    pub wait: Arc<IndexWait>,
}

/// A row without a job, as a job of it would name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedRow {
    pub record_id: Uuid,
    /// The job's `change_data`: a JSON object with the key's columns.
    pub key: String,
}

/// A row without a job, whose document Elasticsearch refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    pub row: LoadedRow,
    /// A sentence for `error_message`.
    pub error: String,
}

impl LoadedChunk {
    /// Notes the rows that are not completed, and forgets the others.
    pub fn leave(&mut self, unfinished: Unfinished) {
        let rows = std::mem::take(&mut self.rows);
        let row = |job| {
            let JobKey::Loaded(number) = job else { return None };
            rows.get(usize::from(number)).cloned()
        };
        let Unfinished { failures, parked } = unfinished;
        self.refused.extend(failures.into_iter().filter_map(|failure| {
            Some(RefusedRow { row: row(failure.job)?, error: failure.error })
        }));
        self.parked.extend(
            parked
                .into_iter()
                .filter_map(|parked| Some(ParkedRow { row: row(parked.job)?, wait: parked.wait })),
        );
    }
}
