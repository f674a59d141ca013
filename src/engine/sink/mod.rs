//! Sends actions to Elasticsearch, and settled batches to the checkpoint.
//!
//! [`Dispatcher`] decides and [`BulkSender`] sends; the loop here connects them with the channels
//! and the clock. Invariants: a job is settled only by Elasticsearch's verdict on its document or on
//! a newer state of it; a document is never in flight twice.
//!
//! Not here: the content of a document (`document`).

pub mod backoff;
pub mod bulk;
pub mod bulk_request;
pub mod client;
pub mod dispatch;
pub mod index;
pub mod indexed;
pub mod listing;
mod listings;
pub mod lookup;
mod node;
pub mod pending;
pub mod ping;
pub mod privileges;
mod probe;
pub mod refresh;
mod service_error;
pub mod state;
#[cfg(test)]
pub(crate) mod testing;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::bulk_request::{Bulk, BulkOutcome, BulkSender};
use self::client::Client;
use self::dispatch::{Dispatch, Dispatcher};
use self::index::{Audit, Pipelines, Presence, ShardHistories};
use self::listing::{Listing, ListingError};
use self::listings::Listed;
use self::refresh::Refresher;
use self::state::{BulkSize, SinkState};
use self::verdict::ServiceError;
use crate::ack::batch::{JobAck, PendingBatch};
use crate::change::Lsn;
use crate::config::{Limits, Refresh};
use crate::engine::control::IndexingReport;
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::SinkCommand;
use crate::postgres::{Disposition, Recovery};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace;
use crate::telemetry::waits::{WaitName, Waits};

/// The interval of the checks of the indices, their shards and their aliases.
const AUDIT_EVERY: Duration = Duration::from_secs(30);

/// Commands received at once.
const COMMANDS_MAX: usize = 512;

/// A prepared index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The read alias, with the prefix.
    pub name: String,
    /// The alias for this epoch's index actions.
    pub write_alias: String,
    /// The index itself, for deletes.
    pub concrete: String,
    /// The base of versions.
    pub base: Lsn,
    /// Distinguishes the index from another one of the same name.
    pub uuid: String,
    /// The index was created by this preparation.
    pub created: bool,
    /// Its ingest pipelines.
    pub pipelines: Pipelines,
    /// The histories of its shards.
    pub histories: ShardHistories,
}

/// The sink cannot continue. Failures of the service are none of these.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("the checkpoint no longer receives settled batches")]
    CheckpointGone,
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// The next run has write aliases of its own.
    #[error("{0}")]
    Misdirected(String),
    #[error("a part of the sink died")]
    Died(#[from] JoinError),
}

impl Recovery for SinkError {
    fn disposition(&self) -> Disposition {
        Disposition::Retry
    }
}

/// The sink and its requests in flight.
#[derive(Debug)]
pub struct Sink {
    sender: Arc<BulkSender>,
    dispatcher: Dispatcher,
    refresher: Refresher,
    state: Arc<SinkState>,
    in_flight: JoinSet<Completion>,
    listings: JoinSet<Listed>,
    waits: Waits,
    audit_at: Instant,
    audits: JoinSet<Vec<(IndexId, Audit)>>,
    /// Listings that have ended, and go on to find out when their indices can be listed.
    probes: JoinSet<Listed>,
}

/// The result of a request.
#[derive(Debug)]
enum Completion {
    Bulk { bulk: Bulk, outcome: BulkOutcome, bytes: usize },
    Check(IndexId, Result<Presence, ServiceError>),
    Ping(Result<(), ServiceError>),
    Refresh,
}

impl Sink {
    /// An idle sink. `targets` and the indices of `state` are in the order of [`IndexId`].
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        targets: Vec<Target>,
        limits: &Limits,
        refresh: Refresh,
        state: Arc<SinkState>,
        metrics: &Metrics,
    ) -> Self {
        let names = targets.iter().map(|target| target.name.clone()).collect();
        Self {
            sender: Arc::new(BulkSender::new(client, targets, metrics.memory.clone())),
            dispatcher: Dispatcher::new(names, limits, Arc::clone(&state)),
            refresher: Refresher::new(refresh),
            state,
            in_flight: JoinSet::new(),
            listings: JoinSet::new(),
            waits: metrics.waits.clone(),
            audit_at: Instant::now() + AUDIT_EVERY,
            audits: JoinSet::new(),
            probes: JoinSet::new(),
        }
    }
}

/// Runs until the commands end and every action is settled, or until `shutdown`: then actions that
/// can be sent are, and the others are left to the next run (their jobs stay unsettled).
///
/// # Errors
///
/// See [`SinkError`]. A failure of Elasticsearch is no error: the sink retries, and [`SinkState`]
/// shows the failure.
pub async fn run(
    mut sink: Sink,
    mut commands: mpsc::Receiver<SinkCommand>,
    settled: mpsc::Sender<Arc<PendingBatch>>,
    mut report: watch::Receiver<IndexingReport>,
    shutdown: CancellationToken,
) -> Result<(), SinkError> {
    let mut received = Vec::with_capacity(COMMANDS_MAX);
    let mut commands_open = true;
    let mut reports_open = true;
    loop {
        let caught_up = report.borrow_and_update().caught_up;
        sink.dispatch(caught_up);
        if let Some(reason) = sink.dispatcher.misdirected() {
            return Err(SinkError::Misdirected(reason.to_owned()));
        }
        sink.send_settled(&settled).await?;
        if sink.is_finished(commands_open, shutdown.is_cancelled()) {
            return Ok(());
        }
        let due = sink.due(caught_up);
        tokio::select! {
            biased; // settle, send, and only then receive
            () = shutdown.cancelled(), if commands_open => {
                commands_open = false;
                commands.close();
            }
            Some(completion) = sink.in_flight.join_next() => sink.complete(completion?),
            Some(audited) = sink.audits.join_next() => sink.audited(audited?),
            () = sleep_until(sink.audit_at), if sink.audits.is_empty() => sink.audit(),
            Some(listed) = sink.listings.join_next() => sink.listed(listed?)?,
            Some(listed) = sink.probes.join_next() => sink.listed(listed?)?,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            count = commands.recv_many(&mut received, COMMANDS_MAX), if commands_open => {
                commands_open = count > 0;
                received.drain(..).for_each(|command| sink.execute(command));
            }
            changed = report.changed(), if reports_open => reports_open = changed.is_ok(),
        }
    }
}

impl Sink {
    /// Starts every request that can be sent now.
    fn dispatch(&mut self, caught_up: bool) {
        let now = Instant::now();
        while let Some(dispatch) = self.dispatcher.next(now) {
            self.send(dispatch);
        }
        self.dispatcher.park(now);
        self.refresher.written(self.dispatcher.take_written());
        if let Some(indices) = self.refresher.start(now, caught_up) {
            let sender = Arc::clone(&self.sender);
            self.state.count_refresh();
            self.in_flight.spawn(async move {
                if let Err(error) = sender.refresh(&indices).await {
                    tracing::debug!(%error, "could not refresh");
                }
                Completion::Refresh
            });
        }
    }

    fn send(&mut self, dispatch: Dispatch) {
        let sender = Arc::clone(&self.sender);
        match dispatch {
            Dispatch::Send(bulk) => {
                let wait = self.waits.begin(WaitName::Bulk);
                self.in_flight.spawn(async move {
                    let _wait = wait;
                    send_bulk(&sender, bulk).await
                });
            }
            Dispatch::Check(index) => {
                self.in_flight
                    .spawn(async move { Completion::Check(index, sender.probe(index).await) });
            }
            Dispatch::Ping => {
                self.in_flight.spawn(async move {
                    let result = ping::ping(sender.client(), &sender.concrete_indices()).await;
                    Completion::Ping(result.map(drop).map_err(|error| ServiceError {
                        failure: error.failure(),
                        reason: error.to_string(),
                    }))
                });
            }
        }
    }

    /// Checks all indices.
    fn audit(&mut self) {
        let sender = Arc::clone(&self.sender);
        self.audits.spawn(async move {
            let mut found = Vec::new();
            for index in sender.indices() {
                // An error is that of the service, which the next request shows as well.
                if let Ok(audit) = sender.audit(index).await {
                    found.push((index, audit));
                }
            }
            found
        });
    }

    fn audited(&mut self, found: Vec<(IndexId, Audit)>) {
        let now = Instant::now();
        self.audit_at = now + AUDIT_EVERY;
        for (index, audit) in found {
            self.dispatcher.audited(now, index, audit);
        }
    }

    fn complete(&mut self, completion: Completion) {
        let now = Instant::now();
        let was_up = self.dispatcher.is_up();
        self.apply(now, completion);
        if !was_up && self.dispatcher.is_up() {
            // The cluster may not be what it was.
            self.audit_at = now;
        }
    }

    fn apply(&mut self, now: Instant, completion: Completion) {
        match completion {
            Completion::Bulk { bulk, outcome, bytes } => {
                let documents = u32::try_from(bulk.actions.len()).unwrap_or(u32::MAX);
                let took = now.saturating_duration_since(bulk.sent_at);
                self.state.count_bulk(outcome.label(), BulkSize { documents, bytes }, took);
                self.dispatcher.answered(now, bulk, outcome);
            }
            Completion::Check(index, result) => self.dispatcher.checked(now, index, result),
            Completion::Ping(result) => self.dispatcher.pinged(now, result),
            Completion::Refresh => self.refresher.finished(),
        }
    }

    fn execute(&mut self, command: SinkCommand) {
        match command {
            SinkCommand::Act(action) => self.dispatcher.push(action),
            SinkCommand::Enumerate { index, filter, pages } => {
                let mut listing = Listing { index, filter, pages, attempts: 0, is_probe: false };
                if !self.park_listing(&mut listing) {
                    self.list(listing);
                }
            }
        }
    }

    async fn send_settled(
        &mut self,
        settled: &mpsc::Sender<Arc<PendingBatch>>,
    ) -> Result<(), SinkError> {
        for pending in self.dispatcher.take_settled() {
            let sent = self.waits.during(WaitName::CheckpointRoom, settled.send(pending)).await;
            sent.map_err(|_| SinkError::CheckpointGone)?;
        }
        Ok(())
    }

    fn due(&self, caught_up: bool) -> Option<Instant> {
        [self.dispatcher.due(), self.refresher.due(caught_up)].into_iter().flatten().min()
    }

    fn is_finished(&self, commands_open: bool, stopping: bool) -> bool {
        if stopping {
            return !commands_open && self.dispatcher.is_blocked();
        }
        !commands_open && self.dispatcher.is_empty() && self.listings.is_empty()
    }
}

/// Sends a bulk request within its span of the trace.
async fn send_bulk(sender: &BulkSender, bulk: Bulk) -> Completion {
    let jobs = bulk.actions.iter().flat_map(|action| action.jobs.iter().map(JobAck::batch));
    let span = trace::bulk(jobs, bulk.actions.len(), bulk.failures.total());
    let (outcome, bytes) = sender.bulk(&bulk.actions, bulk.failures.total()).await;
    let known = matches!(outcome, BulkOutcome::Items(_));
    trace::bulk_ended(&span, bytes, outcome.label(), known);
    drop(span);
    Completion::Bulk { bulk, outcome, bytes }
}
