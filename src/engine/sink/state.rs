//! What the outside sees of the sink: is Elasticsearch there, is each index, and how much was done.
//!
//! Not here: decisions. They are `schedule`'s; this is where it leaves word.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::verdict::{Outcome, ServiceFailure};
use crate::engine::document::id::IndexId;
use crate::telemetry::metrics;
use crate::telemetry::metrics::Metrics;
pub(super) use crate::telemetry::metrics::sink::Circuit;
use crate::telemetry::metrics::sink::IndexState;

/// Whether Elasticsearch as a whole takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    Up,
    Down {
        /// For timers.
        since: Instant,
        /// For people.
        since_time: SystemTime,
        failure: ServiceFailure,
        reason: String,
    },
}

/// Whether one index takes documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Index {
    Open,
    /// It refuses writes, or its shards are not there; resumes by itself.
    Blocked {
        since_time: SystemTime,
        reason: String,
    },
    /// The index or its write alias is gone or has been replaced; resumes when it is back as it was.
    Missing {
        since_time: SystemTime,
        reason: String,
    },
}

/// What one bulk request carried.
#[derive(Clone, Copy, Debug)]
pub(super) struct BulkSize {
    pub(super) documents: u32,
    pub(super) bytes: usize,
}

/// Shared between the sink and whoever wants to know.
#[derive(Debug)]
pub struct State {
    service: watch::Sender<Service>,
    indices: watch::Sender<Vec<Index>>,
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    documents: [AtomicU64; Outcome::ALL.len()],
    retries: [AtomicU64; ServiceFailure::ALL.len()],
    refreshes: AtomicU64,
    /// The indices' aliases: labels.
    names: Vec<String>,
    metrics: metrics::SinkMetrics,
}

impl State {
    /// Everything well, nothing done, nobody told.
    #[must_use]
    pub fn new(index_count: usize) -> Self {
        let names = (0..index_count).map(|index| index.to_string()).collect();
        Self::telling(names, Metrics::new().sink)
    }

    /// The same, for indices of these names.
    #[must_use]
    pub fn telling(names: Vec<String>, metrics: metrics::SinkMetrics) -> Self {
        names.iter().for_each(|name| metrics.set_index(name, IndexState::Open));
        let index_count = names.len();
        Self {
            service: watch::Sender::new(Service::Up),
            indices: watch::Sender::new(vec![Index::Open; index_count]),
            in_flight: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            documents: Default::default(),
            retries: Default::default(),
            refreshes: AtomicU64::new(0),
            names,
            metrics,
        }
    }

    /// Follows whether Elasticsearch is there.
    #[must_use]
    pub fn service(&self) -> watch::Receiver<Service> {
        self.service.subscribe()
    }

    /// Follows the indices, by [`IndexId`].
    #[must_use]
    pub fn indices(&self) -> watch::Receiver<Vec<Index>> {
        self.indices.subscribe()
    }

    /// Bulk requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Documents without a verdict, those in flight included.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Documents settled so.
    #[must_use]
    pub fn documents(&self, outcome: Outcome) -> u64 {
        self.documents[outcome as usize].load(Ordering::Relaxed)
    }

    /// Documents sent again, or held, for this reason.
    #[must_use]
    pub fn retries(&self, failure: ServiceFailure) -> u64 {
        self.retries[failure as usize].load(Ordering::Relaxed)
    }

    /// Refreshes asked for.
    #[must_use]
    pub fn refreshes(&self) -> u64 {
        self.refreshes.load(Ordering::Relaxed)
    }

    pub(super) fn up(&self) {
        self.service.send_if_modified(|service| {
            self.metrics.set_up(true);
            let was_down = *service != Service::Up;
            *service = Service::Up;
            if was_down {
                tracing::info!(event = "sink_up", "Elasticsearch answers again");
            }
            was_down
        });
    }

    pub(super) fn down(&self, now: Instant, failure: ServiceFailure, reason: String) {
        self.metrics.set_up(false);
        let (mut since, mut since_time) = (now, SystemTime::now());
        self.service.send_modify(|service| {
            if let Service::Down { since: first, since_time: first_time, .. } = service {
                (since, since_time) = (*first, *first_time);
            } else {
                tracing::warn!(
                    event = "sink_down",
                    error = reason,
                    "Elasticsearch takes nothing; trying again"
                );
            }
            *service = Service::Down { since, since_time, failure, reason };
        });
    }

    pub(super) fn open(&self, index: IndexId) {
        self.metrics.set_index(self.name(index), IndexState::Open);
        self.indices.send_if_modified(|indices| {
            let slot = &mut indices[usize::from(index.0)];
            let was_closed = *slot != Index::Open;
            *slot = Index::Open;
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

    pub(super) fn close(&self, index: IndexId, missing: bool, reason: String) {
        let state = if missing { IndexState::Missing } else { IndexState::Blocked };
        self.metrics.set_index(self.name(index), state);
        self.indices.send_modify(|indices| {
            let slot = &mut indices[usize::from(index.0)];
            let since_time = match *slot {
                Index::Open => {
                    tracing::warn!(
                        event = "index_closed",
                        error = reason,
                        "an index takes no documents; trying again"
                    );
                    SystemTime::now()
                }
                Index::Blocked { since_time, .. } | Index::Missing { since_time, .. } => since_time,
            };
            *slot = if missing {
                Index::Missing { since_time, reason }
            } else {
                Index::Blocked { since_time, reason }
            };
        });
    }

    pub(super) fn circuit(&self, circuit: Circuit) {
        self.metrics.set_circuit(circuit);
    }

    pub(super) fn count(&self, index: IndexId, outcome: Outcome, documents: u64) {
        if documents > 0 {
            self.documents[outcome as usize].fetch_add(documents, Ordering::Relaxed);
            self.metrics.documents(self.name(index), outcome.label(), documents);
        }
    }

    pub(super) fn count_retries(&self, failure: ServiceFailure, documents: usize) {
        self.retries[failure as usize].fetch_add(documents as u64, Ordering::Relaxed);
        self.metrics.retries(failure.label(), documents as u64);
    }

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

    pub(super) fn set_load(&self, in_flight: usize, waiting: usize) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }
}
