//! Decides what the sink does next, and applies each outcome.
//!
//! A failure holds up no more than it concerns: a failure of the service all requests except one
//! probe at a time, a failure of an index its documents, a failure of a document this document. A
//! request that failed is sent again unchanged, and after repeated failures in halves. A failure of
//! the service fails no document, except one that fails twelve times while its index accepts
//! others. The actions of an index that stays closed are parked.
//!
//! Pure, except for the counters in [`SinkState`] and the jitter of the waits; the caller supplies
//! the time and sends the requests.

mod outcome;
mod park;
mod select;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::park::FailingIndex;
use self::select::index_id;
use super::backoff::{AdaptiveConcurrency, Backoff, CircuitBreaker};
use super::bulk::screen;
use super::bulk_request::{Bulk, RequestFailures};
use super::index::{Audit, Presence};
use super::indexed::IndexedDocuments;
use super::pending::PendingActions;
use super::state::{Circuit, SinkState};
use super::verdict::{DocumentOutcome, ServiceError, ServiceFailure};
use crate::ack::batch::{JobAck, PendingBatch};
use crate::config::Limits;
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::Action;

/// The wait between probes of a service that failed.
const SERVICE: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) };
/// The wait between probes of an index that is blocked or missing.
const INDEX: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(10) };
/// The wait before a failed request is sent again.
const REQUEST: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) };
/// An idle service is pinged after this time without a request.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Bytes of a document's id in an error sentence.
const ID_SHOWN_BYTES_MAX: usize = 128;

/// A request to send now.
#[derive(Debug)]
pub enum Dispatch {
    Send(Bulk),
    /// Checks whether an index takes documents again, for which there is no action to send, or which
    /// did not exist.
    Check(IndexId),
    /// Checks the service, as there is no action to send.
    Ping,
}

/// The actions without a verdict, and the state of the service and of each index.
#[derive(Debug)]
pub struct Dispatcher {
    /// The indices' aliases, for error sentences.
    names: Vec<String>,
    pending: PendingActions,
    indexed: IndexedDocuments,
    /// By index.
    circuits: Vec<IndexCircuit>,
    service: CircuitBreaker,
    /// Requests to be sent again. Their documents count as in flight.
    retries: Vec<RetryBatch>,
    concurrency: AdaptiveConcurrency,
    bytes_max: usize,
    in_flight: usize,
    /// The index of the first actions in the last bulk request.
    first_index: usize,
    last_response_at: Option<Instant>,
    /// The time of the last request or ping.
    last_request_at: Option<Instant>,
    settled: Vec<Arc<PendingBatch>>,
    /// By index: whether documents have been written since the last call of
    /// [`Dispatcher::take_written`].
    written: Vec<bool>,
    /// When actions of a closed index are to be parked next.
    park_at: Option<Instant>,
    state: Arc<SinkState>,
    /// A write alias leads to another index: only a new epoch's is sure to be this process's.
    misdirected: Option<String>,
}

/// The circuit breaker of one index.
#[derive(Debug)]
struct IndexCircuit {
    breaker: CircuitBreaker,
    /// The index does not exist: a check of its existence is the probe.
    missing: bool,
    /// The next probe is a check, whatever actions there are.
    needs_check: bool,
    /// While the breaker is not closed.
    failing: Option<FailingIndex>,
    /// Why the index's documents cannot be listed. Documents are sent all the same, and their
    /// success does not open the index: only a listing does.
    unlisted: Option<String>,
}

impl IndexCircuit {
    const CLOSED: Self = Self {
        breaker: CircuitBreaker::Closed,
        missing: false,
        needs_check: false,
        failing: None,
        unlisted: None,
    };
}

#[derive(Debug)]
struct RetryBatch {
    actions: Vec<Action>,
    failures: RequestFailures,
    not_before: Instant,
}

impl Dispatcher {
    #[must_use]
    pub fn new(names: Vec<String>, limits: &Limits, state: Arc<SinkState>) -> Self {
        let index_count = names.len();
        Self {
            names,
            pending: PendingActions::new(index_count),
            indexed: IndexedDocuments::default(),
            circuits: std::iter::repeat_with(|| IndexCircuit::CLOSED).take(index_count).collect(),
            service: CircuitBreaker::Closed,
            retries: Vec::new(),
            concurrency: AdaptiveConcurrency::new(
                limits.bulk_actions_max,
                limits.bulks_in_flight_max,
            ),
            bytes_max: limits.bulk_bytes_max,
            in_flight: 0,
            first_index: 0,
            last_response_at: None,
            last_request_at: None,
            settled: Vec::new(),
            written: vec![false; index_count],
            misdirected: None,
            park_at: None,
            state,
        }
    }

    /// Every document has its verdict.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// No request is in flight, and none can be sent before a circuit breaker closes.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.in_flight == 0 && (!self.service.is_closed() || self.sendable() == 0)
    }

    /// Takes the batches of which the last job has been settled.
    pub fn take_settled(&mut self) -> Vec<Arc<PendingBatch>> {
        std::mem::take(&mut self.settled)
    }

    /// Takes the list of indices written to since the last call.
    pub fn take_written(&mut self) -> impl Iterator<Item = IndexId> {
        let written = self.written.iter_mut().map(std::mem::take).collect::<Vec<_>>();
        (0..).map(IndexId).zip(written).filter_map(|(index, written)| written.then_some(index))
    }

    /// Adds an action. What Elasticsearch is known to have is settled at once.
    pub fn push(&mut self, action: Action) {
        let is_settled = action.unchanged
            && self.indexed.contains(&action.document)
            && !self.pending.contains(&action.document);
        if is_settled {
            self.state.count(action.document.index, DocumentOutcome::Unchanged, 1);
            self.settled.extend(action.jobs.into_iter().filter_map(JobAck::done));
            return;
        }
        if let Some(reason) = screen(&action) {
            self.refuse(action, &reason);
            return;
        }
        self.pending.push(action);
        self.publish_load();
    }

    /// Applies the result of a check of a closed index.
    pub fn checked(
        &mut self,
        now: Instant,
        index: IndexId,
        result: Result<Presence, ServiceError>,
    ) {
        self.circuits[usize::from(index.0)].needs_check = false;
        match result {
            Ok(Presence::Present) => self.close_circuit(index),
            Ok(Presence::Missing(reason)) => self.index_missing(now, index, reason),
            Ok(Presence::Misdirected(reason)) => {
                self.index_missing(now, index, reason.clone());
                self.misdirected = Some(reason);
            }
            Err(error)
                if matches!(error.failure, ServiceFailure::Blocked | ServiceFailure::Missing) =>
            {
                self.open_circuit(now, index, error);
            }
            Err(_) => self.circuits[usize::from(index.0)].breaker.trip(now, index_wait),
        }
    }

    /// Applies the result of a check that found an index in order.
    pub fn audited(&mut self, now: Instant, index: IndexId, audit: Audit) {
        self.state.set_searches(index, audit.searches);
        match audit.presence {
            Presence::Present => {}
            found => self.checked(now, index, Ok(found)),
        }
    }

    /// Whether the service takes requests.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.service.is_closed()
    }

    /// Why the write aliases must be made anew.
    #[must_use]
    pub fn misdirected(&self) -> Option<&str> {
        self.misdirected.as_deref()
    }

    /// Applies the result of a ping.
    pub fn pinged(&mut self, now: Instant, result: Result<(), ServiceError>) {
        match result {
            Ok(()) => self.service_responded(now),
            Err(error) => self.service_failed(now, error),
        }
    }

    /// The service responds: its circuit breaker closes, and retries are due at once.
    fn service_responded(&mut self, now: Instant) {
        self.last_response_at = Some(now);
        if !self.service.is_closed() {
            self.service = CircuitBreaker::Closed;
            self.state.circuit(Circuit::Closed);
            self.retries.iter_mut().for_each(|retry| retry.not_before = now);
            self.state.up();
        }
    }

    fn service_failed(&mut self, now: Instant, error: ServiceError) {
        self.indexed.clear();
        self.service.trip(now, |attempts| SERVICE.delay(attempts, fastrand::f64()));
        self.state.circuit(Circuit::Open);
        self.state.down(now, error);
    }

    fn close_circuit(&mut self, index: IndexId) {
        let circuit = &mut self.circuits[usize::from(index.0)];
        if !circuit.breaker.is_closed() {
            circuit.breaker = CircuitBreaker::Closed;
            circuit.missing = false;
            circuit.needs_check = false;
            circuit.failing = None;
            match circuit.unlisted.clone() {
                Some(reason) => self.state.close(index, false, reason),
                None => self.state.open(index),
            }
            self.publish_closed();
        }
    }

    /// The user may not list the documents of an index.
    pub fn listing_refused(&mut self, index: IndexId, reason: String) {
        let circuit = &mut self.circuits[usize::from(index.0)];
        circuit.unlisted = Some(reason.clone());
        if circuit.breaker.is_closed() {
            self.state.close(index, false, reason);
        }
        self.publish_closed();
    }

    /// Whether the user may not list the documents of an index.
    #[must_use]
    pub fn is_unlisted(&self, index: IndexId) -> bool {
        self.circuits[usize::from(index.0)].unlisted.is_some()
    }

    /// The documents of an index were listed.
    pub fn listed(&mut self, index: IndexId) {
        let circuit = &mut self.circuits[usize::from(index.0)];
        if circuit.unlisted.take().is_some() && circuit.breaker.is_closed() {
            self.state.open(index);
        }
        self.publish_closed();
    }

    /// The index does not exist.
    pub fn index_missing(&mut self, now: Instant, index: IndexId, reason: String) {
        self.open_circuit(now, index, ServiceError { failure: ServiceFailure::Missing, reason });
    }

    fn open_circuit(&mut self, now: Instant, index: IndexId, error: ServiceError) {
        self.indexed.clear();
        let circuit = &mut self.circuits[usize::from(index.0)];
        circuit.missing = error.failure == ServiceFailure::Missing;
        circuit.breaker.trip(now, index_wait);
        let name = &self.names[usize::from(index.0)];
        let failing = FailingIndex::after(circuit.failing.as_ref(), now, name, &error);
        circuit.failing = Some(failing);
        self.state.close(index, circuit.missing, error.reason);
        self.publish_closed();
    }

    fn requeue(&mut self, actions: Vec<Action>) {
        actions.into_iter().for_each(|action| self.pending.requeue(action));
    }

    /// Fails an action's jobs; the sentence begins with the document.
    fn refuse(&mut self, action: Action, reason: &str) {
        self.indexed.remove(&action.document);
        self.state.count(action.document.index, DocumentOutcome::Refused, 1);
        let id = &action.document.id;
        let (id, _) = id.split_at(id.floor_char_boundary(ID_SHOWN_BYTES_MAX));
        let sentence =
            format!("{}/{id}: {reason}", self.names[usize::from(action.document.index.0)]);
        let failed = action.jobs.into_iter().filter_map(|job| job.failed(sentence.clone()));
        self.settled.extend(failed);
    }

    fn publish_load(&self) {
        self.state.set_load(self.in_flight, self.pending.len());
    }
}

fn index_wait(attempts: u32) -> Duration {
    INDEX.delay(attempts, fastrand::f64())
}
