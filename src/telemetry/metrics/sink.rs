//! Metrics of the requests to Elasticsearch and their results.
//!
//! Not here: the classification of results (`engine::sink::verdict`).

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::registration::{COUNTS, LATENCIES, Registration, SIZES, float};

/// The values of the label `outcome` of documents.
const OUTCOMES: [&str; 4] = ["indexed", "deleted", "superseded", "refused"];
/// The values of the label `reason`. Requests without an answer have them as `outcome`.
const FAILURES: [&str; 8] = [
    "overloaded",
    "unavailable",
    "connection",
    "timeout",
    "not_authorised",
    "not_understood",
    "blocked",
    "missing",
];

/// The state of the circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Requests are sent.
    Closed,
    /// Requests wait.
    Open,
    /// One request is sent as a test.
    Trying,
}

impl Circuit {
    const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::Trying];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Trying => "trying",
        }
    }
}

/// The state of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// The index accepts documents.
    Open,
    /// The index rejects documents because of a block.
    Blocked,
    /// The index does not exist.
    Missing,
}

impl IndexState {
    const ALL: [Self; 3] = [Self::Open, Self::Blocked, Self::Missing];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Blocked => "blocked",
            Self::Missing => "missing",
        }
    }
}

/// Metrics of the sink. Clones share them.
#[derive(Clone, Debug)]
pub struct SinkMetrics {
    up: IntGauge,
    circuit: IntGaugeVec,
    index_state: IntGaugeVec,
    documents: IntCounterVec,
    requests: IntCounterVec,
    request_seconds: Histogram,
    bulk_documents: Histogram,
    bulk_bytes: Histogram,
    sent_bytes: IntCounter,
    retries: IntCounterVec,
    refreshes: IntCounter,
    in_flight: IntGauge,
    waiting: IntGauge,
}

impl SinkMetrics {
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let sink = Self {
            up: add.gauge("sink_up", "1 while Elasticsearch answers."),
            circuit: add.gauges(
                "sink_circuit_state",
                "1 for whether requests go out, wait, or one is out to see.",
                &["state"],
            ),
            index_state: add.gauges(
                "sink_index_state",
                "1 for whether an index takes documents, refuses them, or is not there.",
                &["index", "state"],
            ),
            documents: add.counters(
                "sink_documents_total",
                "Documents that Elasticsearch has answered for.",
                &["index", "outcome"],
            ),
            requests: add.counters(
                "sink_bulk_requests_total",
                "Bulk requests by their outcome.",
                &["outcome"],
            ),
            request_seconds: add.histogram(
                "sink_bulk_request_duration_seconds",
                "From the start of a bulk request to the end of its answer.",
                LATENCIES,
            ),
            bulk_documents: add.histogram(
                "sink_bulk_documents",
                "Documents in a bulk request.",
                COUNTS,
            ),
            bulk_bytes: add.histogram(
                "sink_bulk_bytes",
                "Bytes of a bulk request before compression.",
                SIZES,
            ),
            sent_bytes: add
                .counter("sink_sent_bytes_total", "Bytes of bulk requests before compression."),
            retries: add.counters(
                "sink_retries_total",
                "Documents sent again or held for a reason that is not theirs.",
                &["reason"],
            ),
            refreshes: add.counter("sink_refreshes_total", "Refreshes asked for."),
            in_flight: add.gauge("sink_in_flight_requests", "Bulk requests under way."),
            waiting: add.gauge(
                "sink_waiting_documents",
                "Documents without an answer, those under way included.",
            ),
        };
        sink.set_circuit(Circuit::Closed);
        FAILURES.iter().for_each(|reason| drop(sink.retries.with_label_values(&[*reason])));
        drop(sink.requests.with_label_values(&["answered"]));
        sink
    }

    pub(super) fn declare(&self, indices: &[String]) {
        for index in indices {
            self.set_index(index, IndexState::Open);
            OUTCOMES.iter().for_each(|o| drop(self.documents.with_label_values(&[index, *o])));
        }
    }

    /// Sets whether Elasticsearch is reachable.
    pub fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// Sets the state of the circuit breaker.
    pub fn set_circuit(&self, circuit: Circuit) {
        for other in Circuit::ALL {
            self.circuit.with_label_values(&[other.as_str()]).set(i64::from(other == circuit));
        }
    }

    /// Sets the state of an index. `index` is a configured name.
    pub fn set_index(&self, index: &str, state: IndexState) {
        for other in IndexState::ALL {
            let value = i64::from(other == state);
            self.index_state.with_label_values(&[index, other.as_str()]).set(value);
        }
    }

    /// Counts documents by their result. `index` is a configured name; `outcome` is a word of a
    /// verdict.
    pub fn documents(&self, index: &str, outcome: &'static str, count: u64) {
        self.documents.with_label_values(&[index, outcome]).inc_by(count);
    }

    /// Counts a finished bulk request. `outcome` is `answered`, `too_large`, `refused` or a word of
    /// a failure of the service.
    pub fn bulk_request(&self, outcome: &'static str, documents: u32, bytes: u64, took: Duration) {
        self.requests.with_label_values(&[outcome]).inc();
        self.request_seconds.observe(took.as_secs_f64());
        self.bulk_documents.observe(f64::from(documents));
        self.bulk_bytes.observe(float(bytes));
        self.sent_bytes.inc_by(bytes);
    }

    /// Counts documents that are sent again or held. `reason` is a word of a failure of the service.
    pub fn retries(&self, reason: &'static str, documents: u64) {
        self.retries.with_label_values(&[reason]).inc_by(documents);
    }

    /// Counts a bulk request that forces a refresh.
    pub fn refreshed(&self) {
        self.refreshes.inc();
    }

    /// Sets the number of requests in flight and of documents that wait for an answer.
    pub fn set_load(&self, in_flight: usize, waiting: usize) {
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}
