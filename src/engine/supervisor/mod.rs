//! Observes the run and publishes the decision of [`engine::control`](crate::engine::control).
//!
//! Further duties have tasks of their own: finding stuck jobs ([`rescue`]), renewing the lease and
//! maintaining the queue's partitions ([`upkeep`]). Duties take no input and may run twice.
//!
//! Not here: the decision itself (`engine::control`), and the stages. A duty never changes a job
//! that a stage has in flight.

pub mod operation;
pub mod operator_halt;
pub mod reporter;
pub mod requests;
pub mod rescue;
pub mod retention_guard;
pub mod sink_watch;
pub mod slot_watch;
pub mod upkeep;
pub mod wait_watch;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::control::SettlementProgress;
use crate::engine::control::{Control, IndexingReport, RunConditions, decide};
use crate::postgres::catalog::standby::SynchronousStandby;
use crate::postgres::{Disposition, Recovery};
use crate::storage::QueueError;
use crate::storage::source_identity::SourceError;
use crate::telemetry::waits::WaitName;
use operator_halt::OperatorHalt;
use reporter::Reporter;
use retention_guard::{HeldWal, RetentionGuard};
use sink_watch::SinkWatch;
use slot_watch::SlotWatch;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// A duty could not be done; the run ends.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Standby(#[from] SynchronousStandby),
    #[error("could not read how much WAL the slot retains")]
    Retained(#[source] tokio_postgres::Error),
}

impl Recovery for SupervisorError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Queue(error) => error.disposition(),
            Self::Source(error) => error.disposition(),
            // The next run waits until the setting is mended.
            Self::Standby(_) => Disposition::Retry,
            Self::Retained(source) => source.disposition(),
        }
    }
}

/// The supervisor's ends of the channels of the run.
pub struct SupervisorChannels {
    pub progress: watch::Receiver<SettlementProgress>,
    pub indexing: watch::Receiver<IndexingReport>,
    pub control: watch::Sender<Control>,
}

/// Observes one run.
pub struct Supervisor {
    slot: SlotWatch,
    guard: RetentionGuard,
    sink: SinkWatch,
    halt: OperatorHalt,
    reporter: Reporter,
}

impl Supervisor {
    /// What is watched, and where it is reported.
    #[must_use]
    pub fn new(
        slot: SlotWatch,
        guard: RetentionGuard,
        sink: SinkWatch,
        halt: OperatorHalt,
        reporter: Reporter,
    ) -> Self {
        Self { slot, guard, sink, halt, reporter }
    }
}

/// Runs until shutdown.
///
/// # Errors
/// [`SupervisorError`], which ends the run.
pub async fn run(
    mut supervisor: Supervisor,
    mut channels: SupervisorChannels,
    shutdown: CancellationToken,
) -> Result<(), SupervisorError> {
    let mut tick = interval(SAMPLE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let waits = supervisor.reporter.waits().clone();
    let mut sink_down = false;
    loop {
        let outage_limit = supervisor.sink.outage_limit().filter(|_| !sink_down);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {
                let sample = supervisor.sample(&channels.progress);
                waits.during(WaitName::Supervise, sample).await?;
            }
            () = supervisor.halt.may_have_changed() => {
                waits.during(WaitName::Supervise, supervisor.halt.read()).await?;
            }
            Ok(()) = channels.progress.changed() => {}
            Ok(()) = channels.indexing.changed() => {}
            () = supervisor.sink.changed() => {}
            () = sleep_until(outage_limit.unwrap_or_else(Instant::now)), if outage_limit.is_some() => {}
        }
        sink_down = supervisor.sink.is_down(Instant::now());
        let conditions = RunConditions {
            operator_halt: supervisor.halt.is_halted(),
            retention_guard: supervisor.guard.is_on(),
            sink_down,
        };
        supervisor.report(&mut channels);
        let control = decide(conditions);
        channels.control.send_if_modified(|known| std::mem::replace(known, control) != control);
    }
}

impl Supervisor {
    /// The duties of every second.
    async fn sample(
        &mut self,
        progress: &watch::Receiver<SettlementProgress>,
    ) -> Result<(), SupervisorError> {
        // First, since the application's commits may wait.
        self.slot.verify_asynchronous().await?;
        let sample = self.slot.sample().await?;
        let settled = progress.borrow().settled;
        self.reporter.slot(&sample, settled);
        let unsettled = self.reporter.unsettled_bytes(&sample, settled);
        let (unconfirmed, retained) = match &sample.slot {
            Some(figures) => (figures.unconfirmed_bytes, figures.retained_bytes),
            // Without the privilege, the guard goes by what the stream itself has confirmed.
            None => {
                let unconfirmed = self.reporter.unconfirmed_bytes(&sample, settled);
                (unconfirmed, unconfirmed)
            }
        };
        let was_on = self.guard.is_on();
        let on = self.guard.observe(HeldWal { unconfirmed, retained, unsettled });
        if on != was_on {
            tracing::warn!(
                event = "retention_guard",
                on,
                unconfirmed_bytes = unconfirmed,
                retained_bytes = retained,
                "retention guard"
            );
        }
        self.halt.read().await?;
        Ok(self.slot.verify_source().await?)
    }

    /// Reports to the API and to the metrics.
    fn report(&self, channels: &mut SupervisorChannels) {
        let mode = channels.indexing.borrow_and_update().mode;
        self.reporter.mode(mode, self.halt.is_halted());
        self.reporter.sink(mode, &self.sink);
        self.reporter.progress(channels.progress.borrow().settled);
    }
}
