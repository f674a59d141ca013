//! Indices that stay closed.

use super::*;

const BLOCKED: (u16, &str) = (403, "cluster_block_exception");
const SECOND: Duration = Duration::from_secs(1);

/// An action on the index 0.
fn waiting(id: &str, version: u64) -> Action {
    action(0, id, version, Some("{}"))
}

impl Bench {
    /// Pushes an action of a job, and one of a fan-out whose jobs were deleted, to the closed index 0.
    fn close_first(&mut self) {
        self.dispatcher.push(waiting("job", 1));
        self.dispatcher.push(waiting("gone", 0));
        let bulk = self.send();
        self.answer(bulk, &[BLOCKED, BLOCKED]);
    }

    /// Parks now; the reasons of the parked jobs.
    fn parked(&mut self) -> Vec<String> {
        self.dispatcher.park(self.now);
        let settled = self.dispatcher.take_settled();
        let parked = settled.iter().flat_map(|pending| pending.take_unfinished().parked);
        parked.map(|parked| parked.wait.reason.clone()).collect()
    }

    fn closed(&self) -> Vec<String> {
        self.state.closed().borrow().iter().cloned().collect()
    }
}

#[test]
fn actions_of_an_index_that_stays_closed_are_parked() {
    let mut bench = bench(8, 2);
    bench.close_first();
    assert_eq!(bench.closed(), ["a"]);
    let closed_at = bench.now;
    assert_eq!(bench.parked(), Vec::<String>::new());
    bench.now = closed_at + 2 * SECOND;
    assert_eq!(bench.parked(), ["waits for index a: cluster_block_exception"]);
    // What has no job that could wait is the next probe.
    bench.wait();
    assert_eq!(ids(&bench.send()), "gone");
    assert_eq!(bench.dispatcher.pending.len(), 1);
}

#[test]
fn parking_needs_no_other_event() {
    let mut bench = bench(8, 2);
    bench.dispatcher.push(waiting("job", 1));
    let bulk = bench.send();
    bench.answer(bulk, &[BLOCKED]);
    let closed_at = bench.now;
    while bench.parked().is_empty() {
        bench.wait();
        while let Some(Dispatch::Send(probe)) = bench.dispatcher.next(bench.now) {
            bench.answer(probe, &[BLOCKED]);
        }
        assert!(bench.now <= closed_at + 3 * SECOND, "not parked in time");
    }
}

#[test]
fn an_index_without_actions_is_checked_until_it_opens() {
    let mut bench = bench(8, 2);
    bench.dispatcher.push(waiting("job", 1));
    let bulk = bench.send();
    bench.answer(bulk, &[BLOCKED]);
    bench.now += 2 * SECOND;
    assert_eq!(bench.parked().len(), 1);
    let blocked = || ServiceError { failure: ServiceFailure::Blocked, reason: "why".to_owned() };
    for result in [Err(blocked()), Err(failed(ServiceFailure::Timeout)), Ok(Presence::Present)] {
        assert_eq!(bench.closed(), ["a"]);
        bench.wait();
        let dispatch = bench.dispatcher.next(bench.now);
        assert!(matches!(dispatch, Some(Dispatch::Check(IndexId(0)))), "{dispatch:?}");
        bench.nothing();
        bench.dispatcher.checked(bench.now, IndexId(0), result);
    }
    assert_eq!(bench.closed(), Vec::<String>::new());
    bench.dispatcher.push(waiting("later", 2));
    bench.now += 60 * SECOND;
    assert_eq!(bench.parked(), Vec::<String>::new());
}

#[test]
fn deletes_do_not_show_that_a_blocked_index_is_open() {
    let mut bench = bench(8, 2);
    bench.dispatcher.push(waiting("job", 1));
    let bulk = bench.send();
    bench.answer(bulk, &[BLOCKED]);
    bench.now += 2 * SECOND;
    bench.parked();
    bench.dispatcher.push(action(0, "deleted", 2, None));
    bench.wait();
    let probe = bench.send();
    bench.answer(probe, &[(200, "")]);
    assert_eq!(bench.settled().0, 1);
    assert_eq!(bench.closed(), ["a"]);
    bench.dispatcher.push(action(0, "another", 3, None));
    bench.wait();
    let dispatch = bench.dispatcher.next(bench.now);
    assert!(matches!(dispatch, Some(Dispatch::Check(IndexId(0)))), "{dispatch:?}");
    bench.dispatcher.checked(bench.now, IndexId(0), Ok(Presence::Present));
    assert_eq!(ids(&bench.send()), "another");
    assert_eq!(bench.closed(), Vec::<String>::new());
}

#[test]
fn what_is_to_be_sent_again_is_parked_as_well() {
    let mut bench = bench(8, 2);
    bench.push(1, "other");
    bench.dispatcher.push(waiting("job", 1));
    let bulk = bench.send();
    bench.fail(bulk, ServiceFailure::Timeout);
    bench.dispatcher.pinged(bench.now, Ok(()));
    bench.dispatcher.index_missing(bench.now, IndexId(0), "gone".to_owned());
    bench.now += 2 * SECOND;
    assert_eq!(bench.parked(), ["waits for index a: gone"]);
    let dispatch = bench.dispatcher.next(bench.now);
    assert!(matches!(dispatch, Some(Dispatch::Check(IndexId(0)))), "{dispatch:?}");
    assert_eq!(ids(&bench.send()), "other");
}

#[test]
fn nothing_is_parked_while_no_index_takes_documents() {
    let mut bench = bench(8, 2);
    bench.close_first();
    bench.push(1, "other");
    let other = bench.send();
    bench.answer(other, &[BLOCKED]);
    bench.now += 60 * SECOND;
    assert_eq!(bench.parked(), Vec::<String>::new());
}

#[test]
fn nothing_is_parked_while_the_service_is_down_or_after_the_index_has_opened() {
    let mut bench = bench(8, 2);
    bench.close_first();
    bench.push(1, "other");
    let other = bench.send();
    bench.fail(other, ServiceFailure::Connection);
    bench.now += 60 * SECOND;
    assert_eq!(bench.parked(), Vec::<String>::new());
    while !bench.dispatcher.is_empty() {
        bench.wait();
        while let Some(dispatch) = bench.dispatcher.next(bench.now) {
            let Dispatch::Send(bulk) = dispatch else {
                bench.dispatcher.pinged(bench.now, Ok(()));
                continue;
            };
            let count = bulk.actions.len();
            bench.answer(bulk, &vec![(201, ""); count]);
        }
    }
    bench.dispatcher.push(waiting("later", 2));
    bench.now += 60 * SECOND;
    assert_eq!(bench.parked(), Vec::<String>::new());
}

#[test]
fn a_listing_waits_for_an_index_that_stays_closed() {
    let mut bench = bench(8, 2);
    let first = IndexId(0);
    bench.dispatcher.index_missing(bench.now, first, "gone".to_owned());
    assert_eq!(bench.dispatcher.listing_wait(bench.now, first), None);
    bench.now += 2 * SECOND;
    assert!(bench.dispatcher.listing_wait(bench.now, first).is_some());
    let second = IndexId(1);
    bench.dispatcher.checked(bench.now, first, Ok(Presence::Present));
    assert_eq!(bench.dispatcher.listing_wait(bench.now, first), None);
    bench.dispatcher.listing_refused(second, "no privilege".to_owned());
    let wait = bench.dispatcher.listing_wait(bench.now, second).unwrap();
    assert_eq!(wait.reason, "waits for index b: no privilege");
    assert_eq!(bench.closed(), ["b"]);
    bench.dispatcher.listed(second);
    assert_eq!(bench.closed(), Vec::<String>::new());
}

/// A day of changes for a closed index: each is parked as soon as it comes, however many there are.
#[test]
fn memory_is_bounded_however_long_an_index_stays_closed() {
    let mut bench = bench(100, 2);
    bench.close_first();
    bench.now += 2 * SECOND;
    bench.parked();
    let mut parked = 0;
    for round in 0..600_u64 {
        for number in 0..500 {
            let id = (round * 500 + number).to_string();
            bench.dispatcher.push(waiting(&id, 1));
        }
        while let Some(dispatch) = bench.dispatcher.next(bench.now) {
            let Dispatch::Send(probe) = dispatch else { continue };
            let count = probe.actions.len();
            bench.answer(probe, &vec![BLOCKED; count]);
        }
        parked += bench.parked().len();
        assert!(bench.dispatcher.pending.len() <= 1, "only the action without a job is kept");
        bench.now += 100 * MS;
    }
    assert_eq!(parked, 300_000);
}
