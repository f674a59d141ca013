//! Selects the next request: a retry, a probe, ready actions, or a check.

use tokio::time::Instant;

use super::{Dispatch, Dispatcher, IDLE_MAX, RetryBatch};
use crate::engine::document::id::IndexId;
use crate::engine::sink::bulk_request::{Bulk, RequestFailures};
use crate::engine::sink::pending::BulkCapacity;
use crate::engine::sink::state::Circuit;

/// Actions in a probe of an index.
const PROBE_ACTIONS_MAX: usize = 100;

impl Dispatcher {
    /// The next request to send now. The caller calls this until it returns `None`.
    pub fn next(&mut self, now: Instant) -> Option<Dispatch> {
        let is_probe = self.service.try_half_open(now);
        if is_probe {
            self.state.circuit(Circuit::Trying);
        }
        if !is_probe && !self.service.is_closed() {
            return None;
        }
        if !is_probe && let Some(index) = self.next_check(now) {
            return Some(Dispatch::Check(index));
        }
        if !is_probe && self.in_flight >= self.concurrency.in_flight() {
            return None;
        }
        let bulk = self.next_retry(now, now).or_else(|| self.next_index_probe(now));
        let bulk = bulk.or_else(|| self.next_ready(now));
        // A probe of the service sends a retry before it is due rather than nothing; retries come
        // last, as they may be what the service does not respond to.
        let bulk = bulk.or_else(|| {
            let soonest = self.retries.iter().map(|retry| retry.not_before).min()?;
            if is_probe { self.next_retry(now, soonest) } else { None }
        });
        let Some(bulk) = bulk else {
            let ping = self.ping_is_due(now);
            return (is_probe || ping).then_some(Dispatch::Ping);
        };
        self.last_request_at = Some(now);
        self.in_flight += 1;
        self.publish_load();
        Some(Dispatch::Send(bulk))
    }

    /// When [`Dispatcher::next`] returns a request without another event.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        if !self.service.is_closed() {
            return self.service.due();
        }
        let spare = self.in_flight < self.concurrency.in_flight();
        let circuits = (0..).map(IndexId).zip(&self.circuits).filter_map(|(index, circuit)| {
            let has_probe = circuit.missing || spare || self.pending.ready(index) == 0;
            circuit.breaker.due().filter(|_| has_probe)
        });
        let retries = self.retries.iter().map(|retry| retry.not_before).filter(|_| spare);
        let ping = self.last_request_at.filter(|_| self.in_flight == 0).map(|at| at + IDLE_MAX);
        circuits.chain(retries).chain(ping).chain(self.park_at).min()
    }

    /// Ready actions of the indices with a closed circuit breaker.
    pub(super) fn sendable(&self) -> usize {
        let circuits = (0..).map(IndexId).zip(&self.circuits);
        let closed = circuits.filter(|(_, circuit)| circuit.breaker.is_closed());
        closed.map(|(index, _)| self.pending.ready(index)).sum()
    }

    /// Whether actions are sent to the index: its circuit breaker is closed.
    pub(super) fn is_open(&self, index: IndexId) -> bool {
        self.circuits[usize::from(index.0)].breaker.is_closed()
    }

    /// Whether an idle service is to be pinged; records the ping.
    fn ping_is_due(&mut self, now: Instant) -> bool {
        let since = *self.last_request_at.get_or_insert(now);
        let due = self.in_flight == 0 && now >= since + IDLE_MAX;
        if due {
            self.last_request_at = Some(now);
        }
        due
    }

    /// A closed index that is to be checked: it is missing, or no action of it can be its probe.
    fn next_check(&mut self, now: Instant) -> Option<IndexId> {
        let pending = &self.pending;
        let mut circuits = (0..).map(IndexId).zip(&mut self.circuits);
        circuits.find_map(|(index, circuit)| {
            let needs_check = circuit.missing || circuit.needs_check || pending.ready(index) == 0;
            (needs_check && circuit.breaker.try_half_open(now)).then_some(index)
        })
    }

    /// A retry that is due by `by`. Actions of an index with an open circuit breaker go back to the
    /// ready ones.
    fn next_retry(&mut self, now: Instant, by: Instant) -> Option<Bulk> {
        loop {
            let at = self.retries.iter().position(|retry| retry.not_before <= by)?;
            let RetryBatch { actions, failures, .. } = self.retries.swap_remove(at);
            let (mut actions, blocked): (Vec<_>, Vec<_>) =
                actions.into_iter().partition(|action| self.is_open(action.document.index));
            self.requeue(blocked);
            if !actions.is_empty() {
                actions.iter_mut().for_each(|action| self.pending.merge_later(action));
                return Some(Bulk { actions, failures, sent_at: now, probe: None });
            }
        }
    }

    /// A probe of an index with some of its ready actions.
    fn next_index_probe(&mut self, now: Instant) -> Option<Bulk> {
        for (index, circuit) in (0..).map(IndexId).zip(&mut self.circuits) {
            if circuit.missing || circuit.needs_check || self.pending.ready(index) == 0 {
                continue;
            }
            if !circuit.breaker.try_half_open(now) {
                continue;
            }
            let mut capacity = BulkCapacity {
                actions: PROBE_ACTIONS_MAX.min(self.concurrency.actions()),
                bytes: self.bytes_max,
            };
            let mut actions = Vec::new();
            self.pending.take(index, &mut actions, &mut capacity);
            return Some(Bulk {
                actions,
                failures: RequestFailures::default(),
                sent_at: now,
                probe: Some(index),
            });
        }
        None
    }

    /// Ready actions are sent at once; those that arrive while all requests are in flight form the
    /// next request.
    fn next_ready(&mut self, now: Instant) -> Option<Bulk> {
        let count = self.sendable();
        if count == 0 {
            return None;
        }
        let mut capacity =
            BulkCapacity { actions: self.concurrency.actions(), bytes: self.bytes_max };
        let mut actions = Vec::with_capacity(count.min(capacity.actions));
        // The indices take turns at the front, so that a busy one does not starve the others.
        self.first_index = (self.first_index + 1) % self.circuits.len();
        for step in 0..self.circuits.len() {
            let at = (self.first_index + step) % self.circuits.len();
            if self.circuits[at].breaker.is_closed() {
                self.pending.take(index_id(at), &mut actions, &mut capacity);
            }
        }
        Some(Bulk { actions, failures: RequestFailures::default(), sent_at: now, probe: None })
    }
}

pub(super) fn index_id(at: usize) -> IndexId {
    IndexId(u16::try_from(at).expect("each index has an IndexId"))
}
