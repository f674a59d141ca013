//! The dispatcher against scripted responses.

mod failures;
mod parking;
mod unchanged;

use super::*;
use crate::config::Limits;
use crate::engine::sink::bulk::BulkItem;
use crate::engine::sink::bulk_request::BulkOutcome;
use crate::engine::sink::state::{IndexStatus, ServiceStatus};
use crate::engine::sink::testing::action;
use crate::engine::sink::verdict::{DoneAs, ErrorCause};

const MS: Duration = Duration::from_millis(1);

fn failed(failure: ServiceFailure) -> ServiceError {
    ServiceError { failure, reason: "why".to_owned() }
}

struct Bench {
    dispatcher: Dispatcher,
    state: Arc<SinkState>,
    now: Instant,
}

fn bench(actions_max: usize, in_flight_max: usize) -> Bench {
    let limits = Limits {
        batch_changes_max: 1,
        batch_bytes_max: 1,
        row_bytes_max: usize::MAX,
        fanout_rows_max: 500,
        bulk_actions_max: actions_max,
        bulk_bytes_max: 1 << 20,
        bulks_in_flight_max: in_flight_max,
        actions_bytes_max: 1,
        memory_max: usize::MAX,
        retained_wal_bytes_max: None,
        shutdown_grace: MS,
    };
    let state = Arc::new(SinkState::new(2));
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

    /// The next request once it is due. A ping that is due before it is answered.
    fn send_later(&mut self) -> Bulk {
        for _ in 0..50 {
            self.wait();
            match self.dispatcher.next(self.now) {
                Some(Dispatch::Send(bulk)) => return bulk,
                Some(Dispatch::Ping) => self.dispatcher.pinged(self.now, Ok(())),
                other => assert!(other.is_none(), "{other:?}"),
            }
        }
        panic!("no request is due");
    }

    fn nothing(&mut self) {
        let dispatch = self.dispatcher.next(self.now);
        assert!(dispatch.is_none(), "{dispatch:?}");
    }

    /// Advances the time to when something is due.
    fn wait(&mut self) {
        self.now = self.dispatcher.due().expect("something is due").max(self.now);
    }

    fn answer(&mut self, bulk: Bulk, statuses: &[(u16, &str)]) {
        let item = |(status, error): &(u16, &str)| BulkItem {
            status: *status,
            error: (!error.is_empty())
                .then(|| ErrorCause { kind: (*error).to_owned(), ..ErrorCause::default() }),
            done: DoneAs::Asked,
        };
        self.now += MS;
        let items = statuses.iter().map(item).collect();
        self.dispatcher.answered(self.now, bulk, BulkOutcome::Items(items));
    }

    /// Indexing pressure: a bulk that contains `huge` exceeds the limit.
    fn answer_pressed(&mut self, bulk: Bulk, huge: &str) {
        let reason = "rejected execution of primary operation \
            [coordinating_and_primary_bytes=0, replica_bytes=0, all_bytes=0, \
            primary_operation_bytes=160000144, max_primary_bytes=51897958]";
        let pressed = bulk.actions.iter().any(|action| &*action.document.id == huge);
        let error = pressed.then(|| ErrorCause {
            kind: "es_rejected_execution_exception".to_owned(),
            reason: Some(reason.to_owned()),
            caused_by: None,
        });
        let status = if pressed { 429 } else { 201 };
        let items = bulk
            .actions
            .iter()
            .map(|_| BulkItem { status, error: error.clone(), done: DoneAs::Asked })
            .collect();
        self.now += MS;
        self.dispatcher.answered(self.now, bulk, BulkOutcome::Items(items));
    }

    fn fail(&mut self, bulk: Bulk, failure: ServiceFailure) {
        self.now += MS;
        self.dispatcher.answered(self.now, bulk, BulkOutcome::Failed(failed(failure)));
    }

    fn settled(&mut self) -> (usize, Vec<String>) {
        let pending_batches = self.dispatcher.take_settled();
        let failures =
            pending_batches.iter().flat_map(|pending| pending.take_unfinished().failures);
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
    assert_eq!(bench.state.documents(DocumentOutcome::Superseded), 1);
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
    assert_eq!(
        (again.failures.total(), again.actions[0].version),
        (1, 7),
        "and what has come since"
    );
    bench.answer(again, &[(404, ""), (500, "")]);
    assert_eq!(bench.settled(), (2, vec![]), "one document, two jobs");
}

#[test]
fn an_outage_uses_up_no_attempt_and_sends_the_same_again() {
    let mut bench = bench(8, 2);
    bench.push(0, "x y");
    let mut bulk = bench.send();
    bench.push(1, "z");
    for attempt in 1..20 {
        bench.fail(bulk, ServiceFailure::Connection);
        assert!(!bench.state.service().borrow().eq(&ServiceStatus::Up));
        bench.nothing();
        bench.wait();
        bulk = bench.send();
        bench.nothing();
        assert!(attempt > 3 || bulk.actions.len() < 3);
    }
    let count = bulk.actions.len();
    bench.answer(bulk, &vec![(201, ""); count]);
    assert_eq!(*bench.state.service().borrow(), ServiceStatus::Up);
    let rest = bench.send();
    let count = rest.actions.len();
    bench.answer(rest, &vec![(201, ""); count]);
    assert_eq!(bench.settled(), (3, vec![]));
}

#[test]
fn a_service_with_nothing_to_send_is_pinged() {
    let mut bench = bench(8, 2);
    bench.dispatcher.pinged(bench.now, Err(failed(ServiceFailure::Timeout)));
    bench.nothing();
    bench.wait();
    assert!(matches!(bench.dispatcher.next(bench.now), Some(Dispatch::Ping)));
    bench.nothing();
    bench.dispatcher.pinged(bench.now, Ok(()));
    // An idle service is pinged, so that its failure is noticed.
    assert_eq!(bench.dispatcher.due(), Some(bench.now + IDLE_MAX));
    bench.nothing();
    bench.now += IDLE_MAX;
    assert!(matches!(bench.dispatcher.next(bench.now), Some(Dispatch::Ping)));
    bench.nothing();
    assert_eq!(bench.dispatcher.due(), Some(bench.now + IDLE_MAX));
}

#[test]
fn what_exceeds_a_limit_is_divided_and_then_refused() {
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
    assert_eq!(*bench.state.service().borrow(), ServiceStatus::Up);
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
    assert_eq!((ids(&tried).as_str(), tried.probe), ("x z", Some(IndexId(0))));
    bench.answer(tried, &[(429, "cluster_block_exception"), (429, "cluster_block_exception")]);
    bench.nothing();
    bench.wait();
    let tried = bench.send();
    bench.answer(tried, &[(201, ""), (201, "")]);
    assert_eq!(bench.settled(), (4, vec![]));
    assert!(bench.state.indices().borrow().iter().all(|i| *i == IndexStatus::Open));
}

#[test]
fn a_missing_index_is_checked_before_an_action_is_sent_to_it() {
    let mut bench = bench(8, 2);
    bench.push(0, "x");
    let bulk = bench.send();
    bench.answer(bulk, &[(404, "index_not_found_exception")]);
    bench.nothing();
    for found in [Presence::Missing("gone".to_owned()), Presence::Present] {
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
    let missing = BulkOutcome::IndexMissing(IndexId(0), "gone".to_owned());
    bench.dispatcher.answered(bench.now, bulk, missing);
    assert_eq!(ids(&bench.send()), "y");
}

#[test]
fn the_cause_of_a_refused_request_is_found_by_halves() {
    for size in [1, 2, 5, 8] {
        let mut bench = bench(8, 1);
        let names = ["bad", "b", "c", "d", "e", "f", "g", "h"];
        bench.push(0, &names[..size].join(" "));
        while !bench.dispatcher.is_empty() {
            let bulk = bench.send();
            if bulk.actions.iter().any(|a| &*a.document.id == "bad") {
                bench.dispatcher.answered(bench.now, bulk, BulkOutcome::TooLarge);
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
    assert!(bench.dispatcher.pending.len() <= 2, "only the one that hangs is left");
}

#[test]
fn what_cannot_be_sent_fails_at_once() {
    let mut bench = bench(8, 2);
    bench.dispatcher.push(action(0, "", 1, None));
    bench.nothing();
    assert_eq!(bench.settled(), (1, vec!["a/: the document's id is empty".to_owned()]));
}
