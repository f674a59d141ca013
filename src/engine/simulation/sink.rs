//! The sink's loop around the product's `Dispatcher`, and the requests in flight.
//!
//! Not here: what the index does with a write (`index`).

use std::sync::Arc;

use tokio::sync::mpsc;

use super::index::{INDICES, Shown, Write};
use super::outside::{LateRequest, Outside};
use crate::ack::batch::PendingBatch;
use crate::config::Limits;
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::{Action, SinkCommand};
use crate::engine::sink::bulk::BulkItem;
use crate::engine::sink::bulk_request::{Bulk, BulkOutcome};
use crate::engine::sink::dispatch::{Dispatch, Dispatcher};
use crate::engine::sink::index::Presence;
use crate::engine::sink::state::{ServiceStatus, SinkState};
use crate::engine::sink::verdict::{DoneAs, ErrorCause, ServiceError, ServiceFailure};

/// Actions without a verdict.
const ACTIONS_MAX: usize = 6;
/// Without a response within this time a request is given up, in milliseconds.
const TIMEOUT: u64 = 5000;
/// A request that was given up arrives within this time, if at all, in milliseconds.
const LATE_MAX: u64 = 10_000;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is executed, and answered.
    Answered,
    /// It is executed, and the answer is lost.
    AnswerLost,
    /// It is lost, or arrives late.
    Lost,
    /// Nothing listens.
    Refused,
}

#[derive(Debug)]
enum Request {
    Bulk { bulk: Bulk, fate: Fate, due_at: u64 },
    Ping { due_at: u64 },
    Check { index: IndexId, due_at: u64 },
}

impl Request {
    fn due_at(&self) -> u64 {
        match self {
            Self::Bulk { due_at, .. } | Self::Ping { due_at } | Self::Check { due_at, .. } => {
                *due_at
            }
        }
    }
}

/// The sink of one run.
pub(super) struct SinkLoop {
    dispatcher: Dispatcher,
    state: Arc<SinkState>,
    commands: mpsc::Receiver<SinkCommand>,
    settled: mpsc::Sender<Arc<PendingBatch>>,
    requests: Vec<Request>,
    epoch: u64,
}

impl SinkLoop {
    pub(super) fn new(
        limits: &Limits,
        state: Arc<SinkState>,
        commands: mpsc::Receiver<SinkCommand>,
        settled: mpsc::Sender<Arc<PendingBatch>>,
        epoch: u64,
    ) -> Self {
        let dispatcher =
            Dispatcher::new(INDICES.map(str::to_owned).to_vec(), limits, Arc::clone(&state));
        Self { dispatcher, state, commands, settled, requests: Vec::new(), epoch }
    }

    /// Whether one more action finds room.
    pub(super) fn has_room(&self) -> bool {
        self.commands.len() + self.state.waiting() < ACTIONS_MAX
    }

    /// Whether nothing can be done any more: all is settled, or the service is down.
    pub(super) fn is_finished(&self) -> bool {
        let is_down = matches!(*self.state.service().borrow(), ServiceStatus::Down { .. });
        let gives_up = is_down && self.dispatcher.is_blocked() && self.requests.is_empty();
        self.commands.is_empty() && (self.dispatcher.is_empty() || gives_up)
    }

    /// Takes one step; false if there is none now.
    pub(super) fn step(&mut self, outside: &mut Outside) -> bool {
        let mut moved = self.respond(outside);
        if let Ok(command) = self.commands.try_recv() {
            let SinkCommand::Act(action) = command else { unreachable!("the feed lists itself") };
            self.dispatcher.push(action);
            moved = true;
        }
        while let Some(dispatch) = self.dispatcher.next(outside.instant()) {
            self.send(dispatch, outside);
            moved = true;
        }
        self.dispatcher.park(outside.instant());
        for pending in self.dispatcher.take_settled() {
            self.settled.try_send(pending).expect("the checkpoint takes the batch");
            moved = true;
        }
        moved
    }

    fn send(&mut self, dispatch: Dispatch, outside: &mut Outside) {
        let latency = if outside.is_slow { 2000..15_000 } else { 1..60 };
        let due_at = outside.now + outside.rng.u64(latency);
        match dispatch {
            Dispatch::Send(bulk) => {
                let fate = self.fate(outside);
                let due_at = if fate == Fate::Lost { outside.now + TIMEOUT } else { due_at };
                outside.note(|| format!("sink: {:?}, {fate:?} at {due_at}", writes(&bulk)));
                self.requests.push(Request::Bulk { bulk, fate, due_at });
            }
            Dispatch::Ping => self.requests.push(Request::Ping { due_at }),
            Dispatch::Check(index) => self.requests.push(Request::Check { index, due_at }),
        }
    }

    fn fate(&self, outside: &mut Outside) -> Fate {
        if !outside.index.is_up {
            return Fate::Refused;
        }
        if !outside.is_lossy {
            return Fate::Answered;
        }
        match outside.rng.u8(0..16) {
            0 => Fate::Lost,
            1 => Fate::AnswerLost,
            _ => Fate::Answered,
        }
    }

    /// Applies the outcome of one request that is due.
    fn respond(&mut self, outside: &mut Outside) -> bool {
        let now = outside.now;
        let due = self.requests.iter().filter(|request| request.due_at() <= now).count();
        if due == 0 {
            return false;
        }
        // Any of them may be answered first.
        let chosen = outside.rng.usize(0..due);
        let mut found = (0..self.requests.len()).filter(|at| self.requests[*at].due_at() <= now);
        let at = found.nth(chosen).expect("so many are due");
        match self.requests.swap_remove(at) {
            Request::Ping { .. } => {
                let result = if outside.index.is_up { Ok(()) } else { Err(refused()) };
                self.dispatcher.pinged(outside.instant(), result);
            }
            Request::Check { index, .. } => {
                let is_blocked =
                    outside.index.is_blocked && usize::from(index.0) + 1 == INDICES.len();
                let result = match outside.index.is_up {
                    false => Err(refused()),
                    true if is_blocked => Err(blocked()),
                    true => Ok(Presence::Present),
                };
                self.dispatcher.checked(outside.instant(), index, result);
            }
            Request::Bulk { bulk, fate, .. } => {
                let outcome = self.outcome(&bulk, fate, outside);
                outside.note(|| format!("sink: {:?}", outcome.label()));
                self.dispatcher.answered(outside.instant(), bulk, outcome);
            }
        }
        true
    }

    fn outcome(&self, bulk: &Bulk, fate: Fate, outside: &mut Outside) -> BulkOutcome {
        let timeout = || ServiceError {
            failure: ServiceFailure::Timeout,
            reason: "no response in time".to_owned(),
        };
        match fate {
            Fate::Answered if outside.index.is_up => {
                let items = bulk.actions.iter().map(|action| self.execute(action, outside));
                BulkOutcome::Items(items.collect())
            }
            Fate::Answered | Fate::Refused => BulkOutcome::Failed(refused()),
            Fate::AnswerLost => {
                let executed = outside.rng.usize(0..=bulk.actions.len());
                for action in &bulk.actions[..executed] {
                    self.execute(action, outside);
                }
                BulkOutcome::Failed(timeout())
            }
            Fate::Lost => {
                self.arrive_late(bulk, outside);
                BulkOutcome::Failed(timeout())
            }
        }
    }

    fn execute(&self, action: &Action, outside: &mut Outside) -> BulkItem {
        if outside.is_lossy && outside.rng.u8(0..32) == 0 {
            return item(429, "es_rejected_execution_exception");
        }
        let write = write(action);
        let Outside { index, source, now, .. } = outside;
        let status = index.apply(source, *now, self.epoch, write);
        outside.note(|| format!("index: {write:?}: {status}"));
        match status {
            409 => item(409, "version_conflict_engine_exception"),
            403 => item(403, "cluster_block_exception"),
            400 => item(400, "mapper_parsing_exception"),
            status => BulkItem { status, error: None, done: DoneAs::Asked },
        }
    }

    fn arrive_late(&self, bulk: &Bulk, outside: &mut Outside) {
        if !outside.has_late_requests() || outside.rng.bool() {
            return;
        }
        let due_at = outside.now + outside.rng.u64(0..LATE_MAX);
        outside.late.push(LateRequest { due_at, epoch: self.epoch, writes: writes(bulk) });
    }

    /// The process dies: requests on their way are executed now, later, or never.
    pub(super) fn crash(self, outside: &mut Outside) {
        for request in &self.requests {
            let Request::Bulk { bulk, fate, .. } = request else { continue };
            if !outside.index.is_up || *fate == Fate::Refused {
                continue;
            }
            if outside.rng.bool() {
                self.arrive_late(bulk, outside);
            } else {
                let executed = outside.rng.usize(0..=bulk.actions.len());
                for action in &bulk.actions[..executed] {
                    self.execute(action, outside);
                }
            }
        }
    }

    pub(super) fn next_due(&self, outside: &Outside) -> Option<u64> {
        let requests = self.requests.iter().map(Request::due_at);
        let own = self.dispatcher.due().map(|due| outside.milliseconds(due));
        requests.chain(own).filter(|at| *at > outside.now).min()
    }
}

fn refused() -> ServiceError {
    ServiceError { failure: ServiceFailure::Connection, reason: "connection refused".to_owned() }
}

fn blocked() -> ServiceError {
    ServiceError { failure: ServiceFailure::Blocked, reason: "it is read-only".to_owned() }
}

fn item(status: u16, kind: &str) -> BulkItem {
    let cause = ErrorCause { kind: kind.to_owned(), ..ErrorCause::default() };
    BulkItem { status, error: Some(cause), done: DoneAs::Asked }
}

fn write(action: &Action) -> Write {
    Write {
        row: action.document.id.parse().expect("documents are numbered"),
        version: action.version,
        content: action.body.as_deref().map(Shown::of_bytes),
    }
}

fn writes(bulk: &Bulk) -> Vec<Write> {
    bulk.actions.iter().map(write).collect()
}
