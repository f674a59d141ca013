//! Applies the outcome of a bulk request. Which response is what: `verdict` for an item,
//! `bulk_request` and `service_error` for a request as a whole.
//!
//! - Success, the 404 of a delete, a version conflict (409): the document's jobs are settled.
//! - An item's block (of any status), 401 or 403, a closed or missing index: the index's circuit
//!   breaker opens. One probe at a time is sent; its documents wait, and are parked (`park`).
//! - An item's other 429, 408, 5xx, 404 or 409: the document is sent again after a growing wait, at
//!   each third failure in halves; no job loses an attempt. If its index has taken nothing with this
//!   request and the document has not failed so before, the index's circuit breaker opens instead. A
//!   429 halves the size and the number of requests as well.
//! - 429, 5xx, 401, 403, a time-out or no response for the whole request: the service's circuit
//!   breaker opens, unless another request has succeeded meanwhile. One probe at a time is sent, then
//!   the request again, in halves after three failures if it may be their cause; no job loses an
//!   attempt. A 429 halves as above.
//! - 413, or a 429 above a limit that does not depend on load: the request is sent in halves; a
//!   document that is alone in it is refused.
//! - Any other error of an item, and a document that fails twelve times while its index takes others,
//!   the last time alone: the document is refused, and its jobs lose an attempt (`storage/queue/retry.rs`).

use tokio::time::Instant;

use super::{Dispatcher, REQUEST, RetryBatch, index_wait};
use crate::ack::batch::JobAck;
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::Action;
use crate::engine::sink::backoff::CircuitBreaker;
use crate::engine::sink::bulk::{BulkItem, op_type};
use crate::engine::sink::bulk_request::{Bulk, BulkOutcome, RequestFailures};
use crate::engine::sink::verdict::{DocumentOutcome, ServiceError, ServiceFailure, Verdict};

/// After this many failures a request is sent in halves, to find the document that causes them.
const SPLIT_AFTER: u32 = 3;
/// At this many failures a document that is alone in its request is refused, as its index has taken
/// others meanwhile.
const SINGLE_FAILURES_MAX: u32 = 12;

/// The verdicts on the documents of one index in one response.
#[derive(Default)]
struct IndexVerdicts {
    /// A verdict shows that the index works.
    works: bool,
    /// Settled documents, by [`DocumentOutcome`].
    settled: [u64; DocumentOutcome::ALL.len()],
    stopped: Option<ServiceError>,
    too_large: Vec<Action>,
    too_large_reason: String,
    to_retry: Vec<Action>,
    /// The last failure of those in `to_retry`.
    failure: Option<ServiceError>,
}

impl Dispatcher {
    /// Applies the outcome of a bulk request.
    pub fn answered(&mut self, now: Instant, bulk: Bulk, outcome: BulkOutcome) {
        self.in_flight -= 1;
        match outcome {
            BulkOutcome::Items(items) => {
                self.service_responded(now);
                self.apply_items(now, bulk, items);
            }
            BulkOutcome::TooLarge => {
                self.service_responded(now);
                let reason = "status 413: the document is too large for Elasticsearch";
                self.split_refused(now, bulk, reason);
            }
            BulkOutcome::Refused(cause) => {
                self.service_responded(now);
                self.split_refused(now, bulk, &cause.sentence());
            }
            BulkOutcome::Failed(error) | BulkOutcome::Intercepted(error) => {
                self.request_failed(now, bulk, error);
            }
            BulkOutcome::IndexMissing(index, reason) => {
                self.service_responded(now);
                let failure = ServiceFailure::Missing;
                self.open_circuit(now, index, ServiceError { failure, reason });
                self.requeue(bulk.actions);
            }
        }
        self.publish_load();
    }

    fn apply_items(&mut self, now: Instant, bulk: Bulk, items: Vec<BulkItem>) {
        let mut verdicts: Vec<IndexVerdicts> =
            self.circuits.iter().map(|_| IndexVerdicts::default()).collect();
        for (action, item) in bulk.actions.into_iter().zip(items) {
            let of_index = &mut verdicts[usize::from(action.document.index.0)];
            self.apply_item(action, &item, of_index);
        }
        let is_overload = |error: &ServiceError| error.failure == ServiceFailure::Overloaded;
        if verdicts.iter().any(|of_index| of_index.failure.as_ref().is_some_and(is_overload)) {
            self.concurrency.decrease();
        } else {
            self.concurrency.increase();
        }
        for (index, mut of_index) in (0..).map(IndexId).zip(verdicts) {
            for (outcome, documents) in DocumentOutcome::ALL.into_iter().zip(of_index.settled) {
                self.state.count(index, outcome, documents);
            }
            self.split_too_large(now, &mut of_index, bulk.failures);
            self.conclude(now, index, of_index, bulk.failures);
        }
        if let Some(index) = bulk.probe {
            self.check_probed(now, index);
        }
    }

    fn apply_item(&mut self, action: Action, item: &BulkItem, of_index: &mut IndexVerdicts) {
        let operation = op_type(&action);
        let circuit = &self.circuits[usize::from(action.document.index.0)];
        match Verdict::of_item(operation, item.status, item.error.as_ref(), &item.done) {
            Verdict::Done(outcome) => {
                of_index.works |= circuit.is_shown_open_by(operation);
                of_index.settled[outcome as usize] += 1;
                self.settle(action, outcome);
            }
            Verdict::Refused(reason) => {
                of_index.works = true;
                self.pending.release(&action.document);
                self.refuse(action, &reason);
            }
            Verdict::TooMuch(reason) => {
                of_index.too_large.push(action);
                of_index.too_large_reason = reason;
            }
            Verdict::Retry(error) => {
                of_index.to_retry.push(action);
                of_index.failure = Some(error);
            }
            Verdict::Stop(error) => {
                self.state.count_retries(error.failure, 1);
                self.pending.requeue(action);
                of_index.stopped = Some(error);
            }
        }
    }

    /// Documents that are too large together are sent in halves; a single one is refused. The limit
    /// concerns all documents of a shard, so only a document alone in a request is known to exceed
    /// it.
    fn split_too_large(
        &mut self,
        now: Instant,
        of_index: &mut IndexVerdicts,
        failures: RequestFailures,
    ) {
        let mut actions = std::mem::take(&mut of_index.too_large);
        of_index.works |= !actions.is_empty();
        if actions.len() > 1 {
            self.retry_in_halves(RetryBatch { actions, failures, not_before: now });
        } else if let Some(action) = actions.pop() {
            self.pending.release(&action.document);
            self.refuse(action, &of_index.too_large_reason);
        }
    }

    /// Closes the circuit breaker of an index that works. Opens that of an index that took no
    /// document because of a failure, unless these documents have failed before while it took others.
    fn conclude(
        &mut self,
        now: Instant,
        index: IndexId,
        of_index: IndexVerdicts,
        failures: RequestFailures,
    ) {
        let IndexVerdicts { works, stopped, to_retry: actions, failure, .. } = of_index;
        if let Some(error) = failure {
            self.state.count_retries(error.failure, actions.len());
            if works || failures.items > 0 {
                self.send_again(now, index, actions, failures, &error);
            } else {
                self.open_circuit(now, index, error);
                self.requeue(actions);
            }
        }
        if let Some(error) = stopped {
            self.open_circuit(now, index, error);
        } else if works {
            self.close_circuit(index);
        }
    }

    /// Sends documents again that failed while their index took others; one alone has its limit.
    fn send_again(
        &mut self,
        now: Instant,
        index: IndexId,
        actions: Vec<Action>,
        mut failures: RequestFailures,
        error: &ServiceError,
    ) {
        failures.items += 1;
        if failures.items >= SINGLE_FAILURES_MAX && actions.len() == 1 && self.is_open(index) {
            return self.refuse_single(actions, failures.items, &error.reason);
        }
        let not_before = now + REQUEST.delay(failures.items, fastrand::f64());
        let retry = RetryBatch { actions, failures, not_before };
        if failures.items.is_multiple_of(SPLIT_AFTER) {
            self.retry_in_halves(retry);
        } else {
            self.retries.push(retry);
        }
    }

    /// A probe that shows nothing is followed by a check.
    fn check_probed(&mut self, now: Instant, index: IndexId) {
        let circuit = &mut self.circuits[usize::from(index.0)];
        if matches!(circuit.breaker, CircuitBreaker::HalfOpen { .. }) {
            circuit.needs_check = true;
            circuit.breaker.trip(now, index_wait);
        }
    }

    /// Refuses the one document that keeps failing while its index accepts others.
    fn refuse_single(&mut self, actions: Vec<Action>, failures: u32, reason: &str) {
        let sentence = format!("refused {failures} times while others were taken: {reason}");
        for action in actions {
            self.pending.release(&action.document);
            self.refuse(action, &sentence);
        }
    }

    fn request_failed(&mut self, now: Instant, bulk: Bulk, error: ServiceError) {
        let failure = error.failure;
        self.state.count_retries(failure, bulk.actions.len());
        if failure == ServiceFailure::Overloaded {
            self.concurrency.decrease();
        }
        // If other requests have succeeded since this one was sent, this request is the cause.
        let is_isolated =
            self.service.is_closed() && self.last_response_at.is_some_and(|at| at > bulk.sent_at);
        if !is_isolated {
            self.service_failed(now, error);
        }
        if let Some(index) = bulk.probe {
            self.circuits[usize::from(index.0)].breaker.trip(now, index_wait);
            self.requeue(bulk.actions);
            return;
        }
        let mut failures = bulk.failures;
        failures.whole += 1;
        let not_before = now + REQUEST.delay(failures.total(), fastrand::f64());
        let retry = RetryBatch { actions: bulk.actions, failures, not_before };
        let may_be_the_cause = is_isolated || failure == ServiceFailure::Timeout;
        if failures.whole.is_multiple_of(SPLIT_AFTER) && may_be_the_cause {
            self.retry_in_halves(retry);
        } else {
            self.retries.push(retry);
        }
    }

    /// Elasticsearch refuses the request as a whole: it is sent in halves until the document that
    /// causes this is alone.
    fn split_refused(&mut self, now: Instant, mut bulk: Bulk, reason: &str) {
        if bulk.probe.is_some() || bulk.actions.len() > 1 {
            // The response is the node's, not the index's: a probe has shown nothing about it.
            if let Some(index) = bulk.probe {
                self.close_circuit(index);
            }
            let Bulk { actions, failures, .. } = bulk;
            self.retry_in_halves(RetryBatch { actions, failures, not_before: now });
        } else if let Some(action) = bulk.actions.pop() {
            self.pending.release(&action.document);
            self.refuse(action, reason);
        }
    }

    fn retry_in_halves(&mut self, mut retry: RetryBatch) {
        if retry.actions.len() > 1 {
            let actions = retry.actions.split_off(retry.actions.len() / 2);
            self.retries.push(RetryBatch { actions, ..retry });
        }
        self.retries.push(retry);
    }

    fn settle(&mut self, action: Action, outcome: DocumentOutcome) {
        self.written[usize::from(action.document.index.0)] |=
            outcome != DocumentOutcome::Superseded;
        self.pending.release(&action.document);
        if outcome == DocumentOutcome::Indexed {
            self.indexed.insert(action.document);
        } else {
            self.indexed.remove(&action.document);
        }
        self.settled.extend(action.jobs.into_iter().filter_map(JobAck::done));
    }
}
