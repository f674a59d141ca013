//! Actions to Elasticsearch, and batches on to the checkpoint: the loop, and nothing else.
//!
//! [`Dispatcher`] decides, [`BulkSender`] sends; here they meet the channels and the clock. Invariants: a
//! job is settled only by Elasticsearch's own verdict on its document or a newer state of it; one
//! document is never twice in flight. Not here: what a document says (`document`).

pub mod backoff;
pub mod bulk;
pub mod bulk_request;
pub mod client;
pub mod dispatch;
pub mod index;
pub mod listing;
pub mod pending;
pub mod ping;
pub mod refresh;
pub mod state;
#[cfg(test)]
pub(crate) mod testing;
pub mod verdict;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::bulk_request::{Answered, Bulk, BulkSender};
use self::client::Client;
use self::dispatch::{Dispatch, Dispatcher};
use self::index::Presence;
use self::listing::ListingError;
use self::refresh::Refresher;
use self::state::{BulkSize, State};
use self::verdict::ServiceFailure;
use crate::ack::batch::{JobAck, PendingBatch};
use crate::change::Lsn;
use crate::config::{Limits, Refresh};
use crate::engine::control::IndexingReport;
use crate::engine::document::id::{Command, IndexId};
use crate::telemetry::trace;

/// Commands taken in at once.
const COMMANDS_MAX: usize = 512;

/// One index as it was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The alias that searches use, with the prefix.
    pub name: String,
    /// Where this epoch's index actions go.
    pub write_alias: String,
    /// The index itself; where deletes go.
    pub concrete: String,
    /// Versions count from here.
    pub base: Lsn,
    /// Tells the index from another of the same name.
    pub uuid: String,
    /// It was made just now.
    pub created: bool,
}

/// Why the sink cannot go on. What is wrong with the service is none of these.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("the checkpoint does not take settled batches any more")]
    CheckpointGone,
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error("a part of the sink died")]
    Died(#[from] JoinError),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Sink {
    post: Arc<BulkSender>,
    schedule: Dispatcher,
    refresher: Refresher,
    state: Arc<State>,
    under_way: JoinSet<Finished>,
    listings: JoinSet<Result<(), ListingError>>,
}

/// What a task of the loop's brings home.
#[derive(Debug)]
enum Finished {
    Bulk { bulk: Bulk, answered: Answered, bytes: usize },
    Check(IndexId, Result<Presence, (ServiceFailure, String)>),
    Ping(Result<(), (ServiceFailure, String)>),
    Refresh,
}

impl Sink {
    /// A sink at rest. `targets` are in the order of [`IndexId`], as are the places in `state`.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        targets: Vec<Target>,
        limits: &Limits,
        refresh: Refresh,
        state: Arc<State>,
    ) -> Self {
        let names = targets.iter().map(|target| target.name.clone()).collect();
        Self {
            post: Arc::new(BulkSender::new(client, targets)),
            schedule: Dispatcher::new(names, limits, Arc::clone(&state)),
            refresher: Refresher::new(refresh),
            state,
            under_way: JoinSet::new(),
            listings: JoinSet::new(),
        }
    }
}

/// Runs until the commands end and all is settled, or until `shutdown`: then what can be sent now
/// is, and what waits for better times is left to the next run (dropped jobs stay unsettled).
///
/// # Errors
///
/// See [`SinkError`]. ServiceFailure with Elasticsearch is waited out, and told by the [`State`].
pub async fn run(
    mut sink: Sink,
    mut commands: mpsc::Receiver<Command>,
    settled: mpsc::Sender<Arc<PendingBatch>>,
    mut report: watch::Receiver<IndexingReport>,
    shutdown: CancellationToken,
) -> Result<(), SinkError> {
    let mut taken = Vec::with_capacity(COMMANDS_MAX);
    let mut more = true;
    let mut follows = true;
    loop {
        let caught_up = report.borrow_and_update().caught_up;
        sink.dispatch(caught_up);
        sink.hand_over(&settled).await?;
        if sink.is_finished(more, shutdown.is_cancelled()) {
            return Ok(());
        }
        let due = sink.due(caught_up);
        tokio::select! {
            biased; // settle, send, and only then take more
            () = shutdown.cancelled(), if more => {
                more = false;
                commands.close();
            }
            Some(finished) = sink.under_way.join_next() => sink.absorb(finished?),
            Some(listed) = sink.listings.join_next() => listed??,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            count = commands.recv_many(&mut taken, COMMANDS_MAX), if more => {
                more = count > 0;
                taken.drain(..).for_each(|command| sink.take(command));
            }
            changed = report.changed(), if follows => follows = changed.is_ok(),
        }
    }
}

impl Sink {
    /// Starts all that can be done now.
    fn dispatch(&mut self, caught_up: bool) {
        let now = Instant::now();
        while let Some(errand) = self.schedule.next(now) {
            let post = Arc::clone(&self.post);
            match errand {
                Dispatch::Send(bulk) => self.under_way.spawn(async move {
                    let batches = bulk
                        .actions
                        .iter()
                        .flat_map(|action| action.jobs.iter().map(JobAck::batch));
                    let span = trace::bulk(batches, bulk.actions.len(), bulk.attempts);
                    let (answered, bytes) = post.bulk(&bulk.actions).await;
                    let known = matches!(answered, Answered::Items(_));
                    trace::bulk_ended(&span, bytes, answered.label(), known);
                    drop(span);
                    Finished::Bulk { bulk, answered, bytes }
                }),
                Dispatch::Check(index) => self
                    .under_way
                    .spawn(async move { Finished::Check(index, post.check(index).await) }),
                Dispatch::Ping => self.under_way.spawn(async move {
                    let found = ping::ping(post.client()).await;
                    let found = found.map_err(|error| (error.trouble(), error.to_string()));
                    Finished::Ping(found.map(drop))
                }),
            };
        }
        self.refresher.written(self.schedule.take_written());
        if let Some(indices) = self.refresher.start(now, caught_up) {
            let post = Arc::clone(&self.post);
            self.state.count_refresh();
            self.under_way.spawn(async move {
                if let Err(error) = post.refresh(&indices).await {
                    tracing::debug!(%error, "could not refresh");
                }
                Finished::Refresh
            });
        }
    }

    fn absorb(&mut self, finished: Finished) {
        let now = Instant::now();
        match finished {
            Finished::Bulk { bulk, answered, bytes } => {
                let documents = u32::try_from(bulk.actions.len()).unwrap_or(u32::MAX);
                let took = now.saturating_duration_since(bulk.sent_at);
                self.state.count_bulk(answered.label(), BulkSize { documents, bytes }, took);
                self.schedule.answered(now, bulk, answered);
            }
            Finished::Check(index, found) => self.schedule.checked(now, index, found),
            Finished::Ping(found) => self.schedule.pinged(now, found),
            Finished::Refresh => self.refresher.finished(),
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Act(action) => self.schedule.push(action),
            Command::Enumerate { index, filter, pages } => {
                let post = Arc::clone(&self.post);
                self.listings.spawn(async move {
                    listing::list(post.client(), &post.target(index).concrete, filter, pages).await
                });
            }
        }
    }

    async fn hand_over(
        &mut self,
        settled: &mpsc::Sender<Arc<PendingBatch>>,
    ) -> Result<(), SinkError> {
        for pending in self.schedule.take_settled() {
            settled.send(pending).await.map_err(|_| SinkError::CheckpointGone)?;
        }
        Ok(())
    }

    fn due(&self, caught_up: bool) -> Option<Instant> {
        [self.schedule.due(), self.refresher.due(caught_up)].into_iter().flatten().min()
    }

    fn is_finished(&self, more: bool, stopping: bool) -> bool {
        if stopping {
            return !more && self.schedule.is_stuck();
        }
        !more && self.schedule.is_empty() && self.listings.is_empty()
    }
}
