//! The duty that finds stuck jobs, every 15 s and on request.
//!
//! Not here: which job is stuck, and what becomes of it (`storage::queue::rescue`).

use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use super::requests::{OperatorRequests, RescuePass};
use crate::ack::in_flight::InFlight;
use crate::storage::QueueError;
use crate::storage::queue::rescue::{Rescued, Rescuer};
use crate::telemetry::metrics;

/// Between two passes.
const EVERY: Duration = Duration::from_secs(15);
/// More stuck jobs than this in one pass mean that something is wrong with the pipeline.
const CRITICAL_ABOVE: u64 = 5;

/// Makes passes until the run ends.
///
/// # Errors
/// [`QueueError`], which ends the run.
pub async fn run(
    mut rescuer: Rescuer,
    in_flight: InFlight,
    operator_requests: OperatorRequests,
    metrics: metrics::QueueMetrics,
) -> Result<(), QueueError> {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = operator_requests.rescue.notified() => {}
        }
        let orphans = rescuer.reset_orphans().await?;
        let rescued = rescuer.pass(&in_flight).await?;
        metrics.rescued(rescued.reset, rescued.failed);
        log(rescued);
        log_orphans(orphans);
        if rescued.reset + orphans > 0 {
            operator_requests.feed.notify_one();
        }
        operator_requests.rescued.send_replace(RescuePass { rescued, at: Some(SystemTime::now()) });
    }
}

/// Reports jobs of earlier runs that are `pending` again.
pub fn log_orphans(jobs: u64) {
    if jobs > 0 {
        tracing::info!(event = "orphans_reset", jobs, "jobs of the run before are pending again");
    }
}

fn log(rescued: Rescued) {
    let total = rescued.total();
    if total > CRITICAL_ABOVE {
        tracing::error!(
            event = "many_jobs_stuck",
            jobs = total,
            "CRITICAL: {total} stuck jobs detected; something keeps jobs from their end"
        );
    }
    if total > 0 {
        tracing::warn!(
            event = "stuck_jobs_reset",
            pending = rescued.reset,
            failed = rescued.failed,
            "stuck jobs were reset"
        );
    }
}
