//! Parks the actions of an index that stays closed, so that they hold up nothing else.
//!
//! A parked action is dropped and its jobs are `pending` again. They wait for the index, and are
//! rendered by reads under their own versions once it takes documents. While no index takes
//! documents, nothing is parked, because then the service has failed. A job of a fan-out waits from
//! the fan-out's end on, and a row of the first load gets a job that waits. The actions of a fan-out
//! whose jobs were deleted from the queue stay.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Dispatcher, IndexCircuit, RetryBatch};
use crate::ack::batch::IndexWait;
use crate::engine::document::id::IndexId;
use crate::engine::sink::verdict::{OpType, ServiceError, ServiceFailure};

/// An index refuses all documents this long before its actions are parked.
const REFUSAL_MAX: Duration = Duration::from_secs(2);
/// The same for other failures, which may concern a few documents, or end by themselves.
const FAILURE_MAX: Duration = Duration::from_secs(8);

/// An index that takes no documents.
#[derive(Debug)]
pub(super) struct FailingIndex {
    since: Instant,
    /// From here on its actions are parked.
    park_from: Instant,
    failure: ServiceFailure,
    wait: Arc<IndexWait>,
}

impl FailingIndex {
    /// `before` is its state until this error.
    pub(super) fn after(
        before: Option<&Self>,
        now: Instant,
        name: &str,
        error: &ServiceError,
    ) -> Self {
        let since = before.map_or(now, |before| before.since);
        let patience = match error.failure {
            ServiceFailure::Blocked | ServiceFailure::Missing => REFUSAL_MAX,
            _ => FAILURE_MAX,
        };
        let wait = wait_for(name, &error.reason);
        Self { since, park_from: since + patience, failure: error.failure, wait }
    }
}

/// What jobs wait for that need this index.
pub(super) fn wait_for(name: &str, reason: &str) -> Arc<IndexWait> {
    // A `text` takes no NUL, and the sentence quotes what Elasticsearch answered.
    let reason = format!("waits for index {name}: {}", reason.replace('\0', ""));
    Arc::new(IndexWait { index: name.to_owned(), reason })
}

impl IndexCircuit {
    /// Jobs that need the index stay parked.
    pub(super) fn is_closed(&self) -> bool {
        !self.breaker.is_closed() || self.unlisted.is_some()
    }

    /// Whether a verdict on this operation shows that the index takes documents. With a block for
    /// want of disk space (`read_only_allow_delete`) it takes deletes only.
    pub(super) fn is_shown_open_by(&self, operation: OpType) -> bool {
        let is_blocked =
            self.failing.as_ref().is_some_and(|f| f.failure == ServiceFailure::Blocked);
        operation == OpType::Index || !is_blocked
    }
}

impl Dispatcher {
    /// Parks what waits for indices that have been closed for too long. Call it once
    /// [`Dispatcher::next`] has returned `None`: a probe that is due has its actions then.
    pub fn park(&mut self, now: Instant) {
        self.park_at = None;
        if !self.takes_documents() {
            return;
        }
        for at in 0..self.circuits.len() {
            let index = super::index_id(at);
            let Some(failing) = &self.circuits[at].failing else { continue };
            if now < failing.park_from {
                let earliest = self.park_at.map_or(failing.park_from, |t| t.min(failing.park_from));
                self.park_at = Some(earliest);
                continue;
            }
            let wait = Arc::clone(&failing.wait);
            self.recall_retries(index);
            for action in self.pending.park(index) {
                self.indexed.remove(&action.document);
                let jobs = action.jobs.into_iter();
                self.settled.extend(jobs.filter_map(|job| job.parked(&wait)));
            }
        }
        self.publish_load();
    }

    /// What a listing of the index waits for; none if it may be repeated soon.
    #[must_use]
    pub fn listing_wait(&self, now: Instant, index: IndexId) -> Option<Arc<IndexWait>> {
        let circuit = &self.circuits[usize::from(index.0)];
        if !self.takes_documents() {
            return None;
        }
        if let Some(reason) = &circuit.unlisted {
            return Some(wait_for(&self.names[usize::from(index.0)], reason));
        }
        let failing = circuit.failing.as_ref().filter(|failing| now >= failing.park_from)?;
        Some(Arc::clone(&failing.wait))
    }

    /// Whether the service works, and one index at least.
    fn takes_documents(&self) -> bool {
        self.service.is_closed() && self.circuits.iter().any(|circuit| circuit.breaker.is_closed())
    }

    /// Actions of the index that are to be sent again are ready, as the others are.
    fn recall_retries(&mut self, index: IndexId) {
        for retry in std::mem::take(&mut self.retries) {
            let RetryBatch { actions, failures, not_before } = retry;
            let (of_index, actions): (Vec<_>, Vec<_>) =
                actions.into_iter().partition(|action| action.document.index == index);
            self.requeue(of_index);
            if !actions.is_empty() {
                self.retries.push(RetryBatch { actions, failures, not_before });
            }
        }
    }

    /// Publishes which indices are closed.
    pub(super) fn publish_closed(&self) {
        let closed = self.names.iter().zip(&self.circuits);
        let closed = closed.filter(|(_, circuit)| circuit.is_closed());
        self.state.set_closed(closed.map(|(name, _)| name.clone()).collect());
    }
}
