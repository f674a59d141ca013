//! Fan-outs in the background: what a batch begins, and how far one has come once a batch settles.
//!
//! A fan-out begins with the settlement of the batch of its changes. From then on its chunks are
//! batches of their own, and its jobs end with the last of them.
//!
//! Not here: reading rows (`engine::feed::render::fanout`), SQL (`storage::queue::fanout`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::job_set::JobKey;
use crate::change::Position;

/// The rows that a fan-out rewrites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanoutRows {
    /// `schema.name` of the table whose rows changed.
    pub changed: String,
    /// `schema.name` of the table whose rows are rewritten.
    pub table: String,
    /// Its column that refers to the changed rows.
    pub column: String,
    /// The documents show the path of the changed rows.
    pub path: bool,
    /// The values of the column, each with the numbers of its groups; `None` for all rows, which
    /// are those of group 0.
    pub values: Option<BTreeMap<String, Vec<u32>>>,
}

/// The changes of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanoutGroup {
    /// The position of the last of them.
    pub highest: Position,
    pub jobs: Arc<[JobKey]>,
}

/// A fan-out that goes on in the background once its batch settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunFanout {
    pub rows: FanoutRows,
    pub groups: Vec<FanoutGroup>,
}

/// A fan-out as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFanout {
    pub id: i64,
    pub begun: BegunFanout,
    /// The last key of which all is settled, as a JSON array.
    pub last_key: Option<String>,
    /// Rows settled.
    pub row_count: u64,
}

/// How far fan-outs have come once a batch settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanoutChunk {
    /// Fan-outs that rewrite the same rows together.
    pub fanouts: Vec<i64>,
    /// The last key of the chunk, as a JSON array; `None` when the fan-outs are finished.
    pub last_key: Option<String>,
    /// Rows of the chunk.
    pub row_count: u64,
}

/// What the settlement of a batch does to fan-outs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FanoutProgress {
    /// Known once all actions of the batch have been sent.
    pub begun: Vec<BegunFanout>,
    pub chunk: Option<FanoutChunk>,
}

impl FanoutProgress {
    /// The jobs that do not end with the batch.
    #[must_use]
    pub fn unfinished_jobs(&self) -> BTreeSet<JobKey> {
        let groups = self.begun.iter().flat_map(|begun| &begun.groups);
        groups.flat_map(|group| group.jobs.iter().copied()).collect()
    }
}
