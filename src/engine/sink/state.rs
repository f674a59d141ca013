//! The sink's published state: the status of the service and of each index, and counters.
//!
//! Not here: the decisions (`dispatch`), which update this state.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::verdict::{DocumentOutcome, ServiceError, ServiceFailure};
use crate::engine::control::ClosedIndices;
use crate::engine::document::id::IndexId;
use crate::telemetry::metrics;
use crate::telemetry::metrics::Metrics;
pub(super) use crate::telemetry::metrics::sink::Circuit;
use crate::telemetry::metrics::sink::IndexState;

/// Whether Elasticsearch accepts requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceStatus {
    Up,
    Down {
        /// For computing durations.
        since: Instant,
        /// For display.
        since_time: SystemTime,
        failure: ServiceFailure,
        reason: String,
    },
}

/// Whether one index accepts documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexStatus {
    Open,
    /// The index refuses writes, or its shards are not available.
    Blocked {
        since_time: SystemTime,
        reason: String,
    },
    /// The index or its write alias was deleted or replaced.
    Missing {
        since_time: SystemTime,
        reason: String,
    },
}

/// The size of one bulk request.
#[derive(Clone, Copy, Debug)]
pub(super) struct BulkSize {
    pub(super) documents: u32,
    pub(super) bytes: usize,
}

/// Shared by the sink, the supervisor and the API.
#[derive(Debug)]
pub struct SinkState {
    service: watch::Sender<ServiceStatus>,
    indices: watch::Sender<Vec<IndexStatus>>,
    closed: watch::Sender<ClosedIndices>,
    /// By index: what is wrong with its alias for searches.
    searches: watch::Sender<Vec<Option<String>>>,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    documents: [AtomicU64; DocumentOutcome::ALL.len()],
    retries: [AtomicU64; ServiceFailure::ALL.len()],
    refreshes: AtomicU64,
    /// The indices' aliases: labels.
    names: Vec<String>,
    metrics: metrics::SinkMetrics,
}

impl SinkState {
    /// The initial state, with metrics of its own.
    #[must_use]
    pub fn new(index_count: usize) -> Self {
        let names = (0..index_count).map(|index| index.to_string()).collect();
        Self::with_metrics(names, Metrics::new().sink)
    }

    /// The initial state, for indices of these names.
    #[must_use]
    pub fn with_metrics(names: Vec<String>, metrics: metrics::SinkMetrics) -> Self {
        names.iter().for_each(|name| metrics.set_index(name, IndexState::Open));
        let index_count = names.len();
        Self {
            service: watch::Sender::new(ServiceStatus::Up),
            indices: watch::Sender::new(vec![IndexStatus::Open; index_count]),
            closed: watch::Sender::default(),
            searches: watch::Sender::new(vec![None; index_count]),
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            documents: Default::default(),
            retries: Default::default(),
            refreshes: AtomicU64::new(0),
            names,
            metrics,
        }
    }

    /// Follows the status of the service.
    #[must_use]
    pub fn service(&self) -> watch::Receiver<ServiceStatus> {
        self.service.subscribe()
    }

    /// Follows the status of the indices, by [`IndexId`].
    #[must_use]
    pub fn indices(&self) -> watch::Receiver<Vec<IndexStatus>> {
        self.indices.subscribe()
    }

    /// Follows which indices take no documents.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<ClosedIndices> {
        self.closed.subscribe()
    }

    /// Follows what is wrong with the aliases for searches, by [`IndexId`].
    #[must_use]
    pub fn searches(&self) -> watch::Receiver<Vec<Option<String>>> {
        self.searches.subscribe()
    }

    /// Reports what is wrong with the alias for searches of an index.
    pub(super) fn set_searches(&self, index: IndexId, fault: Option<String>) {
        self.searches.send_if_modified(|all| {
            let known = &mut all[usize::from(index.0)];
            if *known == fault {
                return false;
            }
            if let Some(error) = &fault {
                tracing::warn!(event = "alias_elsewhere", error, "searches find other documents");
            }
            *known = fault;
            true
        });
    }

    /// Bulk requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Documents without a verdict, those in flight included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Documents with this outcome.
    #[must_use]
    pub fn documents(&self, outcome: DocumentOutcome) -> u64 {
        self.documents[outcome as usize].load(Ordering::Relaxed)
    }

    /// Documents sent again, or held, after this failure.
    #[must_use]
    pub fn retries(&self, failure: ServiceFailure) -> u64 {
        self.retries[failure as usize].load(Ordering::Relaxed)
    }

    /// Refreshes requested.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.refreshes.load(Ordering::Relaxed)
    }

    /// Elasticsearch has answered.
    pub(super) fn up(&self) {
        self.service.send_if_modified(|service| {
            self.metrics.set_up(true);
            let was_down = *service != ServiceStatus::Up;
            *service = ServiceStatus::Up;
            if was_down {
                tracing::info!(event = "sink_up", "Elasticsearch answers again");
            }
            was_down
        });
    }

    /// Elasticsearch has not answered, or not with what was asked.
    pub(super) fn down(&self, now: Instant, error: ServiceError) {
        self.metrics.set_up(false);
        let ServiceError { failure, reason } = error;
        let mut since = now;
        let mut since_time = SystemTime::now();
        self.service.send_modify(|service| {
            if let ServiceStatus::Down { since: first, since_time: first_time, .. } = service {
                since = *first;
                since_time = *first_time;
                tracing::debug!(error = reason, "Elasticsearch still takes nothing");
            } else {
                tracing::warn!(
                    event = "sink_down",
                    error = reason,
                    "Elasticsearch takes nothing; trying again"
                );
            }
            *service = ServiceStatus::Down { since, since_time, failure, reason };
        });
    }

    /// The index can be written.
    pub(super) fn open(&self, index: IndexId) {
        self.metrics.set_index(self.name(index), IndexState::Open);
        self.indices.send_if_modified(|indices| {
            let status = &mut indices[usize::from(index.0)];
            let was_closed = *status != IndexStatus::Open;
            *status = IndexStatus::Open;
            if was_closed {
                tracing::info!(
                    event = "index_open",
                    index = index.0,
                    "the index takes documents again"
                );
            }
            was_closed
        });
    }

    /// The index cannot be written, for `reason`.
    pub(super) fn close(&self, index: IndexId, missing: bool, reason: String) {
        let state = if missing { IndexState::Missing } else { IndexState::Blocked };
        self.metrics.set_index(self.name(index), state);
        self.indices.send_modify(|indices| {
            let status = &mut indices[usize::from(index.0)];
            let since_time = match *status {
                IndexStatus::Open => {
                    tracing::warn!(
                        event = "index_closed",
                        error = reason,
                        "an index takes no documents; trying again"
                    );
                    SystemTime::now()
                }
                IndexStatus::Blocked { since_time, .. }
                | IndexStatus::Missing { since_time, .. } => since_time,
            };
            *status = if missing {
                IndexStatus::Missing { since_time, reason }
            } else {
                IndexStatus::Blocked { since_time, reason }
            };
        });
    }

    /// Reports which indices take no documents.
    pub(super) fn set_closed(&self, closed: ClosedIndices) {
        self.closed.send_if_modified(|known| {
            let has_changed = *known != closed;
            *known = closed;
            has_changed
        });
    }

    /// Reports the state of the circuit breaker.
    pub(super) fn circuit(&self, circuit: Circuit) {
        self.metrics.set_circuit(circuit);
    }

    /// Counts documents by what became of them.
    pub(super) fn count(&self, index: IndexId, outcome: DocumentOutcome, documents: u64) {
        if documents > 0 {
            self.documents[outcome as usize].fetch_add(documents, Ordering::Relaxed);
            self.metrics.documents(self.name(index), outcome.label(), documents);
        }
    }

    /// Counts documents that are sent again.
    pub(super) fn count_retries(&self, failure: ServiceFailure, documents: usize) {
        self.retries[failure as usize].fetch_add(documents as u64, Ordering::Relaxed);
        self.metrics.retries(failure.label(), documents as u64);
    }

    /// Counts a bulk request and observes its size and duration.
    pub(super) fn count_bulk(&self, outcome: &'static str, bulk: BulkSize, took: Duration) {
        self.metrics.bulk_request(outcome, bulk.documents, bulk.bytes as u64, took);
    }

    pub(super) fn count_refresh(&self) {
        self.refreshes.fetch_add(1, Ordering::Relaxed);
        self.metrics.refreshed();
    }

    fn name(&self, index: IndexId) -> &str {
        &self.names[usize::from(index.0)]
    }

    /// Reports the requests under way and the actions that wait.
    pub(super) fn set_load(&self, in_flight: usize, waiting: usize) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }
}
