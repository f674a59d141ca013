//! The duties beside the flow: guarding the slot's WAL, and saying whether changes may be indexed
//! or only captured; renewing the lease and seeing to the queue's parts ([`duty`]).
//!
//! Duties take no input and may run twice. What they find out travels by `watch` channels.
//!
//! Not here: the stages themselves. A duty never touches a job that a stage holds.

pub mod requests;
pub mod rescue;
pub mod retention_guard;
mod slot_watch;
pub mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::engine::checkpoint::Progress;
use crate::engine::checkpoint::acknowledge::AcknowledgeAt;
use crate::engine::feed::Mode;
use crate::engine::sink::state::{IndexStatus, ServiceStatus, SinkState};
use crate::engine::supervisor::requests::OperatorRequests;
use crate::engine::supervisor::retention_guard::{RetentionGuard, SINK_DOWN_MAX};
use crate::engine::wal::StreamStats;
use crate::postgres::{Disposition, Recovery};
use crate::storage::QueueError;
use crate::storage::control;
use crate::storage::lease::Lease;
use crate::storage::source_identity::{Source, SourceError};
use crate::telemetry::metrics;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::{Component, Status};

const RETAINED_EVERY: Duration = Duration::from_secs(1);

/// A duty could not be done; the run ends.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("could not read how much WAL the slot retains")]
    Retained(#[source] tokio_postgres::Error),
}

impl Recovery for SupervisorError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Queue(error) => error.disposition(),
            Self::Source(error) => error.disposition(),
            Self::Retained(source) => source.disposition(),
        }
    }
}

/// What the duties work with.
pub struct Supervisor {
    pub client: Arc<Client>,
    pub lease: Lease,
    pub guard: RetentionGuard,
    pub metrics: Metrics,
    pub status: Status,
    pub progress: watch::Receiver<Progress>,
    pub service: watch::Receiver<ServiceStatus>,
    pub indices: watch::Receiver<Vec<IndexStatus>>,
    pub sink: Arc<SinkState>,
    pub stream: Arc<StreamStats>,
    pub mode: watch::Receiver<Mode>,
    pub acknowledge_at: watch::Sender<AcknowledgeAt>,
    /// True while changes must only be captured.
    pub capture_only: watch::Sender<bool>,
    /// True while an operator's `stop` holds.
    pub halted: watch::Sender<bool>,
    pub source: Source,
    pub operator_requests: OperatorRequests,
    /// The server has refused a look at the slot, which was said once.
    pub refused: bool,
}

/// Runs until told to stop.
///
/// # Errors
/// [`SupervisorError`], which ends the run.
pub async fn run(
    mut supervisor: Supervisor,
    shutdown: CancellationToken,
) -> Result<(), SupervisorError> {
    let mut tick = interval(RETAINED_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut down_since: Option<Instant> = None;
    loop {
        let patience = down_since.unwrap_or_else(Instant::now) + SINK_DOWN_MAX;
        let impatient = down_since.is_some() && patience > Instant::now();
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {
                supervisor.watch_slot().await?;
                supervisor.read_choice().await?;
                supervisor.source.verify(&supervisor.client).await?;
            }
            () = supervisor.operator_requests.control.notified() => supervisor.read_choice().await?,
            Ok(()) = supervisor.progress.changed() => {}
            Ok(()) = supervisor.service.changed() => {}
            Ok(()) = supervisor.indices.changed() => {}
            Ok(()) = supervisor.mode.changed() => {}
            () = sleep_until(patience), if impatient => {}
        }
        down_since = match supervisor.sink_is_well() {
            true => None,
            false => down_since.or_else(|| Some(Instant::now())),
        };
        supervisor.report();
        supervisor.see();
        let sink_down = down_since.is_some_and(|since| since.elapsed() >= SINK_DOWN_MAX);
        supervisor.say_capture_only(sink_down);
        supervisor.say_acknowledge_at();
    }
}

impl Supervisor {
    /// Tells the API and the metrics how the sink does and what feeds it.
    fn report(&mut self) {
        let mode = *self.mode.borrow_and_update();
        if *self.halted.borrow() {
            self.metrics.pipeline.set_mode(metrics::Mode::Stopped);
            let message = "indexing was stopped by an operator; POST …/queue/start resumes it";
            self.status.fault(Component::Mode, message);
        } else {
            self.metrics.pipeline.set_mode(mode.into());
            self.status.ok(Component::Mode, mode.as_str());
        }
        if let ServiceStatus::Down { reason, .. } = &*self.service.borrow() {
            self.status.fault(Component::Elasticsearch, reason.clone());
        } else if matches!(mode, Mode::Load | Mode::Table | Mode::Live) {
            // Before, it is being made ready, which `pipeline` tells.
            self.status.ok(Component::Elasticsearch, "answers");
            self.report_indices();
        }
    }

    fn report_indices(&self) {
        let indices = self.indices.borrow();
        let closed = indices.iter().find_map(|index| match index {
            IndexStatus::Open => None,
            IndexStatus::Blocked { reason, .. } | IndexStatus::Missing { reason, .. } => {
                Some(reason.clone())
            }
        });
        match closed {
            None => self.status.ok(Component::Indices, "ready"),
            Some(reason) => self.status.fault(Component::Indices, reason),
        }
    }

    /// Elasticsearch answers and every index takes documents.
    fn sink_is_well(&mut self) -> bool {
        let up = matches!(&*self.service.borrow_and_update(), ServiceStatus::Up);
        up && self
            .indices
            .borrow_and_update()
            .iter()
            .all(|index| matches!(index, IndexStatus::Open))
    }

    fn say_capture_only(&self, sink_down: bool) {
        let only = sink_down || self.guard.is_on() || *self.halted.borrow();
        self.capture_only.send_if_modified(|known| std::mem::replace(known, only) != only);
    }

    /// Under the retention guard, recorded changes may be acknowledged.
    fn say_acknowledge_at(&self) {
        let at = match self.guard.is_on() {
            true => AcknowledgeAt::Recorded,
            false => AcknowledgeAt::Settled,
        };
        self.acknowledge_at.send_if_modified(|known| std::mem::replace(known, at) != at);
    }

    /// Takes over what an operator chose, here or at another instance.
    async fn read_choice(&mut self) -> Result<(), SupervisorError> {
        let halted = !control::indexing(&self.client, &self.lease.slot).await?;
        let changed =
            self.halted.send_if_modified(|known| std::mem::replace(known, halted) != halted);
        if changed {
            let word = if halted { "stopped" } else { "started" };
            tracing::info!(event = "indexing_chosen", "indexing was {word} by an operator");
        }
        Ok(())
    }
}
