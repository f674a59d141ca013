//! What a bulk's answer changes.

use tokio::time::Instant;

use super::{Dispatcher, PIECE, RetryBatch, index_wait};
use crate::ack::batch::JobAck;
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::Action;
use crate::engine::sink::backoff::CircuitBreaker;
use crate::engine::sink::bulk::{Item, kind};
use crate::engine::sink::bulk_request::{Answered, Bulk};
use crate::engine::sink::state::Circuit;
use crate::engine::sink::verdict::{Outcome, ServiceFailure, Verdict};

/// A request that fails this often is halved, to tell its documents apart.
const HALVED_AFTER: u32 = 3;
/// A single document that an open index answers with trouble this often is itself the trouble.
const ALONE_MAX: u32 = 12;

/// What one answer says of one index.
#[derive(Default)]
struct Tally {
    well: bool,
    /// Documents done, by [`Outcome`].
    done: [u64; Outcome::ALL.len()],
    stop: Option<(ServiceFailure, String)>,
    too_much: Vec<Action>,
    too_much_reason: String,
    to_retry: Vec<Action>,
    failure: Option<(ServiceFailure, String)>,
}

impl Dispatcher {
    /// What a bulk's answer changes.
    pub fn answered(&mut self, now: Instant, bulk: Bulk, answered: Answered) {
        self.in_flight -= 1;
        match answered {
            Answered::Items(items) => {
                self.well(now);
                self.judge(now, bulk, items);
            }
            Answered::TooLarge => {
                self.well(now);
                self.narrow(now, bulk, "status 413: the document is too large for Elasticsearch");
            }
            Answered::Refused(cause) => {
                self.well(now);
                self.narrow(now, bulk, &cause.sentence());
            }
            Answered::Fault(failure, reason) => self.fault(now, bulk, failure, reason),
            Answered::Missing(index, reason) => {
                self.well(now);
                self.stop(now, index, ServiceFailure::Missing, reason);
                self.give_back(bulk.actions);
            }
        }
        self.show_load();
    }

    /// The service answers.
    pub(super) fn well(&mut self, now: Instant) {
        self.answered_at = Some(now);
        if !self.service.is_open() {
            self.service = CircuitBreaker::Open;
            self.state.circuit(Circuit::Closed);
            self.retries.iter_mut().for_each(|retry| retry.not_before = now);
            self.state.up();
        }
    }

    fn judge(&mut self, now: Instant, bulk: Bulk, items: Vec<Item>) {
        let mut tallies: Vec<Tally> = self.lanes.iter().map(|_| Tally::default()).collect();
        for (action, item) in bulk.actions.into_iter().zip(items) {
            let tally = &mut tallies[usize::from(action.document.index.0)];
            match Verdict::of(kind(&action), item.status, item.error.as_ref()) {
                Verdict::Done(outcome) => {
                    tally.well = true;
                    tally.done[outcome as usize] += 1;
                    self.done(action, outcome);
                }
                Verdict::Refused(reason) => {
                    tally.well = true;
                    self.batch.release(&action.document);
                    self.refuse(action, &reason);
                }
                Verdict::TooMuch(reason) => {
                    tally.too_much.push(action);
                    tally.too_much_reason = reason;
                }
                Verdict::Retry(failure, reason) => {
                    tally.to_retry.push(action);
                    tally.failure = Some((failure, reason));
                }
                Verdict::Stop(failure, reason) => {
                    self.state.count_retries(failure, 1);
                    self.batch.give_back(action);
                    tally.stop = Some((failure, reason));
                }
            }
        }
        let overloaded = |t: &Tally| matches!(t.failure, Some((ServiceFailure::Overloaded, _)));
        if tallies.iter().any(overloaded) {
            self.concurrency.overloaded();
        } else {
            self.concurrency.well();
        }
        for (index, mut tally) in (0..).map(IndexId).zip(tallies) {
            for (outcome, documents) in Outcome::ALL.into_iter().zip(tally.done) {
                self.state.count(index, outcome, documents);
            }
            self.divide(now, &mut tally, bulk.attempts);
            self.conclude(now, index, tally, bulk.attempts);
        }
    }

    /// What was too much together is sent in halves; one alone is refused. Others sent to the same
    /// shard share its fate, so it is known to be alone when it is the only one.
    fn divide(&mut self, now: Instant, tally: &mut Tally, attempts: u32) {
        let mut actions = std::mem::take(&mut tally.too_much);
        tally.well |= !actions.is_empty();
        if actions.len() > 1 {
            self.put_back(actions, attempts, now, true);
        } else if let Some(action) = actions.pop() {
            self.batch.release(&action.document);
            self.refuse(action, &tally.too_much_reason);
        }
    }

    /// An index that took some documents is open; one that took none because of the service
    /// closes, unless these documents are known to be in trouble on their own.
    fn conclude(&mut self, now: Instant, index: IndexId, tally: Tally, attempts: u32) {
        if let Some((failure, reason)) = &tally.failure {
            self.state.count_retries(*failure, tally.to_retry.len());
            if attempts >= ALONE_MAX && tally.to_retry.len() == 1 && self.is_open(index) {
                let sentence =
                    format!("refused {attempts} times while others were taken: {reason}");
                for action in tally.to_retry {
                    self.batch.release(&action.document);
                    self.refuse(action, &sentence);
                }
            } else if tally.to_retry.len() > 1
                && attempts > 0
                && attempts.is_multiple_of(HALVED_AFTER)
            {
                let not_before = now + PIECE.delay(attempts, fastrand::f64());
                self.put_back(tally.to_retry, attempts + 1, not_before, true);
            } else if tally.well || attempts > 0 {
                let attempts = attempts + 1;
                let not_before = now + PIECE.delay(attempts, fastrand::f64());
                self.retries.push(RetryBatch { actions: tally.to_retry, attempts, not_before });
            } else {
                self.stop(now, index, *failure, reason.clone());
                self.give_back(tally.to_retry);
            }
        }
        if let Some((failure, reason)) = tally.stop {
            self.stop(now, index, failure, reason);
        } else if tally.well {
            self.open(index);
        }
    }

    fn fault(&mut self, now: Instant, bulk: Bulk, failure: ServiceFailure, reason: String) {
        self.state.count_retries(failure, bulk.actions.len());
        if failure == ServiceFailure::Overloaded {
            self.concurrency.overloaded();
        }
        // While others are answered, it is this request that is in trouble.
        let alone = self.service.is_open() && self.answered_at.is_some_and(|at| at > bulk.sent_at);
        if !alone {
            self.down(now, failure, reason);
        }
        if let Some(index) = bulk.trying {
            self.lanes[usize::from(index.0)].breaker.close(now, index_wait);
            self.give_back(bulk.actions);
            return;
        }
        let attempts = bulk.attempts + 1;
        let not_before = now + PIECE.delay(attempts, fastrand::f64());
        let halve =
            attempts.is_multiple_of(HALVED_AFTER) && (alone || failure == ServiceFailure::Timeout);
        self.put_back(bulk.actions, attempts, not_before, halve);
    }

    /// Elasticsearch refuses the request as a whole: the culprit is in one of its halves.
    fn narrow(&mut self, now: Instant, mut bulk: Bulk, reason: &str) {
        if bulk.trying.is_some() || bulk.actions.len() > 1 {
            // The answer came from the index's node, not from the index: it stays as it was.
            if let Some(index) = bulk.trying {
                self.open(index);
            }
            self.put_back(bulk.actions, bulk.attempts, now, true);
        } else if let Some(action) = bulk.actions.pop() {
            self.batch.release(&action.document);
            self.refuse(action, reason);
        }
    }

    fn put_back(
        &mut self,
        mut actions: Vec<Action>,
        attempts: u32,
        not_before: Instant,
        halve: bool,
    ) {
        if halve && actions.len() > 1 {
            let half = actions.split_off(actions.len() / 2);
            self.retries.push(RetryBatch { actions: half, attempts, not_before });
        }
        self.retries.push(RetryBatch { actions, attempts, not_before });
    }

    fn done(&mut self, action: Action, outcome: Outcome) {
        self.written[usize::from(action.document.index.0)] |= outcome != Outcome::Superseded;
        self.batch.release(&action.document);
        self.settled.extend(action.jobs.into_iter().filter_map(JobAck::done));
    }
}
