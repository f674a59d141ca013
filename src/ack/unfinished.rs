//! The jobs of a batch that its verdicts leave unfinished: refused, or waiting for an index. Pure.

use std::sync::Arc;

use super::job_set::JobKey;

/// A job whose document Elasticsearch refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub job: JobKey,
    /// A sentence for `error_message`: type, reason and the document it is about.
    pub error: String,
}

/// What a parked job waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexWait {
    /// The index's alias, for `waits_for`.
    pub index: String,
    /// A sentence for `error_message`: the index, and why it takes no documents.
    pub reason: String,
}

/// A job of which an action waits for an index that takes no documents. It is `pending` again, and
/// has used up no attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedJob {
    pub job: JobKey,
    pub wait: Arc<IndexWait>,
}

/// The jobs of a batch that are not completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    pub failures: Vec<Failure>,
    pub parked: Vec<ParkedJob>,
}

impl From<Vec<Failure>> for Unfinished {
    fn from(failures: Vec<Failure>) -> Self {
        Self { failures, parked: Vec::new() }
    }
}
