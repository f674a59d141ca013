//! What the sink does next, and what each answer changes: the loop's mind.
//!
//! Three things can be wrong, and each holds up only what it must: the service (nothing goes out
//! but one try at a time), an index (its documents wait, the others go on), a document (it fails
//! alone). What failed as a request comes back as the same request, and in halves when that does
//! not help. No document fails for what is wrong with the service. Pure but for the counters it
//! keeps in [`State`] and the jitter of its waits; the caller owns the clock and the sending.

mod answer;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{AdaptiveConcurrency, Backoff, CircuitBreaker};
use super::bulk::screen;
use super::bulk_request::Bulk;
use super::index::Presence;
use super::pending::{PendingActions, Room};
use super::state::{Circuit, State};
use super::verdict::{Outcome, ServiceFailure};
use crate::ack::batch::PendingBatch;
use crate::config::Limits;
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::Action;

/// Between tries of a service that is down.
const SERVICE: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) };
/// Between tries of an index that is blocked or missing.
const INDEX: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(10) };
/// Before documents that failed among others that did not are sent again.
const PIECE: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) };
/// A service that nobody has asked anything for this long is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Documents that go out to see whether their index takes them.
const TRY_ACTIONS_MAX: usize = 100;
/// Bytes of a document's id in an error sentence.
const ID_SHOWN_BYTES_MAX: usize = 128;

/// Something to do now.
#[derive(Debug)]
pub enum Dispatch {
    Send(Bulk),
    /// See whether a missing index is back.
    Check(IndexId),
    /// See whether the service is back; there is nothing to send.
    Ping,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Dispatcher {
    /// The indices' aliases, for sentences.
    names: Vec<String>,
    batch: PendingActions,
    lanes: Vec<Lane>,
    service: CircuitBreaker,
    /// Requests to be sent again as they are. Their documents count as in flight.
    retries: Vec<RetryBatch>,
    concurrency: AdaptiveConcurrency,
    bytes_max: usize,
    in_flight: usize,
    /// The index that came first in the last bulk.
    turn: usize,
    answered_at: Option<Instant>,
    /// When it was last asked, or heard, or known to be busy.
    asked_at: Option<Instant>,
    settled: Vec<Arc<PendingBatch>>,
    written: Vec<bool>,
    state: Arc<State>,
}

#[derive(Debug)]
struct Lane {
    breaker: CircuitBreaker,
    missing: bool,
}

#[derive(Debug)]
struct RetryBatch {
    actions: Vec<Action>,
    attempts: u32,
    not_before: Instant,
}

impl Dispatcher {
    #[must_use]
    pub fn new(names: Vec<String>, limits: &Limits, state: Arc<State>) -> Self {
        let index_count = names.len();
        let lane = || Lane { breaker: CircuitBreaker::Open, missing: false };
        Self {
            names,
            batch: PendingActions::new(index_count),
            lanes: std::iter::repeat_with(lane).take(index_count).collect(),
            service: CircuitBreaker::Open,
            retries: Vec::new(),
            concurrency: AdaptiveConcurrency::new(
                limits.bulk_actions_max,
                limits.bulks_in_flight_max,
            ),
            bytes_max: limits.bulk_bytes_max,
            in_flight: 0,
            turn: 0,
            answered_at: None,
            asked_at: None,
            settled: Vec::new(),
            written: vec![false; index_count],
            state,
        }
    }

    /// Every document has its verdict.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Nothing is under way, and what is left waits for better times.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.in_flight == 0 && (!self.service.is_open() || self.fresh() == 0)
    }

    /// Takes the batches whose last job has been settled.
    pub fn take_settled(&mut self) -> Vec<Arc<PendingBatch>> {
        std::mem::take(&mut self.settled)
    }

    /// Takes the list of indices written to since the last call.
    pub fn take_written(&mut self) -> impl Iterator<Item = IndexId> {
        let written = self.written.iter_mut().map(std::mem::take).collect::<Vec<_>>();
        (0..).map(IndexId).zip(written).filter_map(|(index, written)| written.then_some(index))
    }

    /// Takes in an action.
    pub fn push(&mut self, action: Action) {
        if let Some(reason) = screen(&action) {
            self.refuse(action, &reason);
            return;
        }
        self.batch.push(action);
        self.show_load();
    }

    /// What to do now, if anything; call until there is nothing.
    pub fn next(&mut self, now: Instant) -> Option<Dispatch> {
        let trying = self.service.try_now(now);
        if trying {
            self.state.circuit(Circuit::Trying);
        }
        if !trying && !self.service.is_open() {
            return None;
        }
        if !trying && let Some(index) = self.missing_due(now) {
            return Some(Dispatch::Check(index));
        }
        if !trying && self.in_flight >= self.concurrency.in_flight() {
            return None;
        }
        let bulk = self.next_piece(now, now).or_else(|| self.next_try(now));
        let bulk = bulk.or_else(|| self.next_fresh(now));
        // A service is tried with what there is, even before its time; what hangs comes last.
        let bulk = bulk.or_else(|| {
            let soonest = self.retries.iter().map(|retry| retry.not_before).min()?;
            if trying { self.next_piece(now, soonest) } else { None }
        });
        let Some(bulk) = bulk else {
            let silent = self.is_silent(now);
            return (trying || silent).then_some(Dispatch::Ping);
        };
        self.asked_at = Some(now);
        self.in_flight += 1;
        self.show_load();
        Some(Dispatch::Send(bulk))
    }

    /// When [`Dispatcher::next`] will have something to do though nothing happens.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        if !self.service.is_open() {
            return self.service.due();
        }
        let spare = self.in_flight < self.concurrency.in_flight();
        let lanes = (0..).map(IndexId).zip(&self.lanes).filter_map(|(index, lane)| {
            let useful = lane.missing || spare && self.batch.ready(index) > 0;
            lane.breaker.due().filter(|_| useful)
        });
        let retries = self.retries.iter().map(|retry| retry.not_before).filter(|_| spare);
        let silence = self.asked_at.filter(|_| self.in_flight == 0).map(|at| at + SILENCE_MAX);
        lanes.chain(retries).chain(silence).min()
    }

    /// What a look at a missing index changes.
    pub fn checked(
        &mut self,
        now: Instant,
        index: IndexId,
        found: Result<Presence, (ServiceFailure, String)>,
    ) {
        match found {
            Ok(Presence::There) => self.open(index),
            Ok(Presence::Missing(reason)) => self.stop(now, index, ServiceFailure::Missing, reason),
            Err(_) => self.lanes[usize::from(index.0)].breaker.close(now, index_wait),
        }
    }

    /// What a ping changes.
    pub fn pinged(&mut self, now: Instant, found: Result<(), (ServiceFailure, String)>) {
        match found {
            Ok(()) => self.well(now),
            Err((failure, reason)) => self.down(now, failure, reason),
        }
    }

    /// Whether it is time to ask an idle service; asking is owed then.
    fn is_silent(&mut self, now: Instant) -> bool {
        let since = *self.asked_at.get_or_insert(now);
        let silent = self.in_flight == 0 && now >= since + SILENCE_MAX;
        if silent {
            self.asked_at = Some(now);
        }
        silent
    }

    /// A piece whose time has come by then.
    fn next_piece(&mut self, now: Instant, by: Instant) -> Option<Bulk> {
        loop {
            let at = self.retries.iter().position(|retry| retry.not_before <= by)?;
            let RetryBatch { actions, attempts, .. } = self.retries.swap_remove(at);
            let (mut open, closed): (Vec<_>, Vec<_>) =
                actions.into_iter().partition(|action| self.is_open(action.document.index));
            self.give_back(closed);
            if !open.is_empty() {
                open.iter_mut().for_each(|action| self.batch.absorb(action));
                return Some(Bulk { actions: open, attempts, sent_at: now, trying: None });
            }
        }
    }

    fn next_try(&mut self, now: Instant) -> Option<Bulk> {
        for (index, lane) in (0..).map(IndexId).zip(&mut self.lanes) {
            if lane.missing || self.batch.ready(index) == 0 || !lane.breaker.try_now(now) {
                continue;
            }
            let mut room = Room {
                actions: TRY_ACTIONS_MAX.min(self.concurrency.actions()),
                bytes: self.bytes_max,
            };
            let mut actions = Vec::new();
            self.batch.take(index, &mut actions, &mut room);
            return Some(Bulk { actions, attempts: 0, sent_at: now, trying: Some(index) });
        }
        None
    }

    /// What is ready goes out at once; what arrives while bulks are busy forms the next.
    fn next_fresh(&mut self, now: Instant) -> Option<Bulk> {
        let count = self.fresh();
        if count == 0 {
            return None;
        }
        let mut room = Room { actions: self.concurrency.actions(), bytes: self.bytes_max };
        let mut actions = Vec::with_capacity(count.min(room.actions));
        // Each index is first in its turn, so that a busy one does not starve the others.
        self.turn = (self.turn + 1) % self.lanes.len();
        for step in 0..self.lanes.len() {
            let at = (self.turn + step) % self.lanes.len();
            if self.lanes[at].breaker.is_open() {
                self.batch.take(index_id(at), &mut actions, &mut room);
            }
        }
        Some(Bulk { actions, attempts: 0, sent_at: now, trying: None })
    }

    fn missing_due(&mut self, now: Instant) -> Option<IndexId> {
        let due = |lane: &mut Lane| lane.missing && lane.breaker.try_now(now);
        self.lanes.iter_mut().position(due).map(index_id)
    }

    /// Ready actions of the open indices.
    fn fresh(&self) -> usize {
        let open = (0..).map(IndexId).zip(&self.lanes).filter(|(_, lane)| lane.breaker.is_open());
        open.map(|(index, _)| self.batch.ready(index)).sum()
    }

    fn is_open(&self, index: IndexId) -> bool {
        self.lanes[usize::from(index.0)].breaker.is_open()
    }

    fn give_back(&mut self, actions: Vec<Action>) {
        actions.into_iter().for_each(|action| self.batch.give_back(action));
    }

    fn refuse(&mut self, action: Action, reason: &str) {
        self.state.count(action.document.index, Outcome::Refused, 1);
        let id = &action.document.id;
        let (id, _) = id.split_at(id.floor_char_boundary(ID_SHOWN_BYTES_MAX));
        let sentence =
            format!("{}/{id}: {reason}", self.names[usize::from(action.document.index.0)]);
        let failed = action.jobs.into_iter().filter_map(|job| job.failed(sentence.clone()));
        self.settled.extend(failed);
    }

    fn down(&mut self, now: Instant, failure: ServiceFailure, reason: String) {
        self.service.close(now, |attempts| SERVICE.delay(attempts, fastrand::f64()));
        self.state.circuit(Circuit::Open);
        self.state.down(now, failure, reason);
    }

    fn open(&mut self, index: IndexId) {
        let lane = &mut self.lanes[usize::from(index.0)];
        if !lane.breaker.is_open() {
            *lane = Lane { breaker: CircuitBreaker::Open, missing: false };
            self.state.open(index);
        }
    }

    fn stop(&mut self, now: Instant, index: IndexId, failure: ServiceFailure, reason: String) {
        let lane = &mut self.lanes[usize::from(index.0)];
        lane.missing = failure == ServiceFailure::Missing;
        lane.breaker.close(now, index_wait);
        self.state.close(index, lane.missing, reason);
    }

    fn show_load(&self) {
        self.state.set_load(self.in_flight, self.batch.len());
    }
}

fn index_id(at: usize) -> IndexId {
    IndexId(u16::try_from(at).expect("each index has an IndexId"))
}

fn index_wait(attempts: u32) -> Duration {
    INDEX.delay(attempts, fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::engine::sink::bulk::Item;
    use crate::engine::sink::bulk_request::Answered;
    use crate::engine::sink::testing::action;
    use crate::engine::sink::verdict::Cause;

    const MS: Duration = Duration::from_millis(1);

    struct Bench {
        dispatcher: Dispatcher,
        state: Arc<State>,
        now: Instant,
    }

    fn bench(actions_max: usize, in_flight_max: usize) -> Bench {
        let limits = Limits {
            batch_changes_max: 1,
            batch_bytes_max: 1,
            bulk_actions_max: actions_max,
            bulk_bytes_max: 1 << 20,
            bulks_in_flight_max: in_flight_max,
            actions_bytes_max: 1,
            retained_wal_bytes_max: None,
            shutdown_grace: MS,
        };
        let state = Arc::new(State::new(2));
        let names = vec!["a".to_owned(), "b".to_owned()];
        let dispatcher = Dispatcher::new(names, &limits, Arc::clone(&state));
        Bench { dispatcher, state, now: Instant::now() }
    }

    impl Bench {
        fn push(&mut self, index: u16, ids: &str) {
            for id in ids.split(' ') {
                self.dispatcher.push(action(index, id, 1, Some("{}")));
            }
        }

        fn send(&mut self) -> Bulk {
            match self.dispatcher.next(self.now) {
                Some(Dispatch::Send(bulk)) => bulk,
                other => panic!("not a bulk: {other:?}"),
            }
        }

        fn nothing(&mut self) {
            let dispatch = self.dispatcher.next(self.now);
            assert!(dispatch.is_none(), "{dispatch:?}");
        }

        /// Jumps to when something is due.
        fn wait(&mut self) {
            self.now = self.dispatcher.due().expect("something is due").max(self.now);
        }

        fn answer(&mut self, bulk: Bulk, statuses: &[(u16, &str)]) {
            let item = |(status, error): &(u16, &str)| Item {
                status: *status,
                error: (!error.is_empty())
                    .then(|| Cause { kind: (*error).to_owned(), ..Cause::default() }),
            };
            self.now += MS;
            let items = statuses.iter().map(item).collect();
            self.dispatcher.answered(self.now, bulk, Answered::Items(items));
        }

        /// Indexing pressure: with `huge` in it, a bulk never fits.
        fn answer_pressed(&mut self, bulk: Bulk, huge: &str) {
            let reason = "rejected execution of primary operation \
                [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, \
                primary_operation_bytes=160000144, max_primary_bytes=51897958]";
            let pressed = bulk.actions.iter().any(|action| &*action.document.id == huge);
            let error = pressed.then(|| Cause {
                kind: "es_rejected_execution_exception".to_owned(),
                reason: Some(reason.to_owned()),
                caused_by: None,
            });
            let status = if pressed { 429 } else { 201 };
            let items =
                bulk.actions.iter().map(|_| Item { status, error: error.clone() }).collect();
            self.now += MS;
            self.dispatcher.answered(self.now, bulk, Answered::Items(items));
        }

        fn fail(&mut self, bulk: Bulk, failure: ServiceFailure) {
            self.now += MS;
            self.dispatcher.answered(self.now, bulk, Answered::Fault(failure, "why".to_owned()));
        }

        fn settled(&mut self) -> (usize, Vec<String>) {
            let pending_batches = self.dispatcher.take_settled();
            let failures = pending_batches.iter().flat_map(|pending| pending.take_failures());
            (pending_batches.len(), failures.map(|failure| failure.error).collect())
        }
    }

    fn ids(bulk: &Bulk) -> String {
        bulk.actions.iter().map(|a| &*a.document.id).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_arrives_while_bulks_are_busy_forms_the_next() {
        let mut bench = bench(8, 2);
        bench.push(0, "a");
        let first = bench.send();
        bench.push(0, "b");
        let second = bench.send();
        bench.push(1, "c d");
        bench.push(0, "e");
        bench.nothing();
        bench.answer(first, &[(201, "")]);
        let third = bench.send();
        assert_eq!(ids(&third), "c d e", "each index is first in its turn");
        bench.answer(second, &[(409, "")]);
        bench.answer(third, &[(200, ""), (201, ""), (201, "")]);
        assert_eq!(bench.settled(), (5, vec![]));
        assert_eq!(bench.state.documents(Outcome::Superseded), 1);
        assert_eq!(bench.dispatcher.take_written().collect::<Vec<_>>(), [IndexId(0), IndexId(1)]);
    }

    #[test]
    fn a_refused_document_fails_alone_and_by_name() {
        let mut bench = bench(8, 2);
        bench.push(0, "x y z");
        let bulk = bench.send();
        bench.answer(bulk, &[(201, ""), (400, "document_parsing_exception"), (201, "")]);
        let (count, failures) = bench.settled();
        assert_eq!((count, failures), (3, vec!["a/y: document_parsing_exception".to_owned()]));
        assert!(bench.dispatcher.is_empty());
    }

    #[test]
    fn only_what_the_service_failed_is_sent_again() {
        let mut bench = bench(8, 2);
        bench.push(0, "x y z");
        let bulk = bench.send();
        bench.answer(bulk, &[(201, ""), (429, "es_rejected_execution_exception"), (503, "")]);
        assert_eq!(bench.settled(), (1, vec![]));
        bench.nothing();
        bench.dispatcher.push(action(0, "y", 7, None));
        bench.wait();
        let again = bench.send();
        assert_eq!(ids(&again), "y z");
        assert_eq!((again.attempts, again.actions[0].version), (1, 7), "and what has come since");
        bench.answer(again, &[(404, ""), (500, "")]);
        assert_eq!(bench.settled(), (2, vec![]), "one document, two jobs");
    }

    #[test]
    fn an_outage_uses_up_nothing_and_resends_the_same() {
        let mut bench = bench(8, 2);
        bench.push(0, "x y");
        let mut bulk = bench.send();
        bench.push(1, "z");
        for attempt in 1..20 {
            bench.fail(bulk, ServiceFailure::Connection);
            assert!(!bench.state.service().borrow().eq(&crate::engine::sink::state::Service::Up));
            bench.nothing();
            bench.wait();
            bulk = bench.send();
            bench.nothing();
            assert!(attempt > 3 || bulk.actions.len() < 3);
        }
        let count = bulk.actions.len();
        bench.answer(bulk, &vec![(201, ""); count]);
        assert_eq!(*bench.state.service().borrow(), crate::engine::sink::state::Service::Up);
        let rest = bench.send();
        let count = rest.actions.len();
        bench.answer(rest, &vec![(201, ""); count]);
        assert_eq!(bench.settled(), (3, vec![]));
    }

    #[test]
    fn a_service_with_nothing_to_send_is_pinged() {
        let mut bench = bench(8, 2);
        bench.dispatcher.pinged(bench.now, Err((ServiceFailure::Timeout, "why".to_owned())));
        bench.nothing();
        bench.wait();
        assert!(matches!(bench.dispatcher.next(bench.now), Some(Dispatch::Ping)));
        bench.nothing();
        bench.dispatcher.pinged(bench.now, Ok(()));
        // And again once it has been idle for a while, so that its end does not go unnoticed.
        assert_eq!(bench.dispatcher.due(), Some(bench.now + SILENCE_MAX));
        bench.nothing();
        bench.now += SILENCE_MAX;
        assert!(matches!(bench.dispatcher.next(bench.now), Some(Dispatch::Ping)));
        bench.nothing();
        assert_eq!(bench.dispatcher.due(), Some(bench.now + SILENCE_MAX));
    }

    #[test]
    fn what_never_fits_is_divided_and_then_refused() {
        let mut bench = bench(8, 2);
        bench.push(0, "a b huge c");
        let mut sent = Vec::new();
        while let Some(Dispatch::Send(bulk)) = bench.dispatcher.next(bench.now) {
            sent.push(ids(&bulk));
            bench.answer_pressed(bulk, "huge");
        }
        assert_eq!(sent, ["a b huge c", "huge c", "a b", "huge", "c"]);
        let (settled, failures) = bench.settled();
        assert_eq!((settled, failures.len()), (4, 1));
        assert!(failures[0].starts_with("a/huge: es_rejected_execution_exception"), "{failures:?}");
        assert_eq!(*bench.state.service().borrow(), crate::engine::sink::state::Service::Up);
    }

    #[test]
    fn a_blocked_index_waits_and_the_others_go_on() {
        let mut bench = bench(8, 2);
        bench.push(0, "x");
        bench.push(1, "y");
        let bulk = bench.send();
        assert_eq!(ids(&bulk), "y x");
        bench.answer(bulk, &[(201, ""), (403, "cluster_block_exception")]);
        bench.push(0, "z");
        bench.nothing();
        bench.push(1, "w");
        let other = bench.send();
        assert_eq!(ids(&other), "w");
        bench.answer(other, &[(201, "")]);
        bench.wait();
        let tried = bench.send();
        assert_eq!((ids(&tried).as_str(), tried.trying), ("x z", Some(IndexId(0))));
        bench.answer(tried, &[(429, "cluster_block_exception"), (429, "cluster_block_exception")]);
        bench.nothing();
        bench.wait();
        let tried = bench.send();
        bench.answer(tried, &[(201, ""), (201, "")]);
        assert_eq!(bench.settled(), (4, vec![]));
        assert!(
            bench
                .state
                .indices()
                .borrow()
                .iter()
                .all(|i| *i == crate::engine::sink::state::Index::Open)
        );
    }

    #[test]
    fn a_missing_index_is_looked_for_before_anything_is_sent_to_it() {
        let mut bench = bench(8, 2);
        bench.push(0, "x");
        let bulk = bench.send();
        bench.answer(bulk, &[(404, "index_not_found_exception")]);
        bench.nothing();
        for found in [Presence::Missing("gone".to_owned()), Presence::There] {
            bench.wait();
            assert!(matches!(bench.dispatcher.next(bench.now), Some(Dispatch::Check(IndexId(0)))));
            bench.nothing();
            bench.dispatcher.checked(bench.now, IndexId(0), Ok(found));
        }
        assert_eq!(ids(&bench.send()), "x");
    }

    #[test]
    fn a_bulk_that_was_not_sent_leaves_the_service_as_it_was() {
        let mut bench = bench(8, 2);
        bench.push(0, "x");
        bench.push(1, "y");
        let bulk = bench.send();
        let missing = Answered::Missing(IndexId(0), "gone".to_owned());
        bench.dispatcher.answered(bench.now, bulk, missing);
        assert_eq!(ids(&bench.send()), "y");
    }

    #[test]
    fn the_culprit_of_a_refused_request_is_found_by_halves() {
        for size in [1, 2, 5, 8] {
            let mut bench = bench(8, 1);
            let names = ["bad", "b", "c", "d", "e", "f", "g", "h"];
            bench.push(0, &names[..size].join(" "));
            while !bench.dispatcher.is_empty() {
                let bulk = bench.send();
                if bulk.actions.iter().any(|a| &*a.document.id == "bad") {
                    bench.dispatcher.answered(bench.now, bulk, Answered::TooLarge);
                } else {
                    let count = bulk.actions.len();
                    bench.answer(bulk, &vec![(201, ""); count]);
                }
            }
            let (count, failures) = bench.settled();
            assert_eq!((count, failures.len()), (size, 1), "{failures:?}");
            assert!(failures[0].starts_with("a/bad: status 413"), "{failures:?}");
        }
    }

    #[test]
    fn a_request_that_hangs_is_halved_while_others_go_on() {
        let mut bench = bench(4, 2);
        bench.push(0, "bad b c d");
        let mut done = 0;
        for round in 0..40 {
            let good = format!("g{round}");
            bench.push(1, &good);
            while let Some(Dispatch::Send(bulk)) = bench.dispatcher.next(bench.now) {
                if bulk.actions.iter().any(|a| &*a.document.id == "bad") {
                    bench.fail(bulk, ServiceFailure::Timeout);
                } else {
                    let count = bulk.actions.len();
                    done += count;
                    bench.answer(bulk, &vec![(201, ""); count]);
                }
            }
            bench.wait();
        }
        assert!(done >= 40, "{done}");
        assert!(bench.dispatcher.batch.len() <= 2, "only the one that hangs is left");
    }

    #[test]
    fn what_cannot_be_sent_fails_at_once() {
        let mut bench = bench(8, 2);
        bench.dispatcher.push(action(0, "", 1, None));
        bench.nothing();
        assert_eq!(bench.settled(), (1, vec!["a/: the document's id is empty".to_owned()]));
    }
}
