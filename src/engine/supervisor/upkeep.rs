//! Duties that must not wait for each other. Each has a task and a session of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;

use crate::config::{Database, Queue};
use crate::postgres;
use crate::storage::QueueError;
use crate::storage::audit;
use crate::storage::lease;
use crate::storage::lease::Lease;
use crate::storage::queue::maintain::{MaintainError, Maintained, Maintainer};
use crate::telemetry::waits::{WaitName, Waits};

const MAINTAIN_EVERY: Duration = Duration::from_secs(3600);
const MAINTAIN_AGAIN: Duration = Duration::from_secs(60);

/// Renews the lease until it is lost.
///
/// # Errors
/// [`QueueError`]: another instance holds the lease, or the session is gone.
pub async fn renew(client: Arc<Client>, lease: Lease, waits: Waits) -> Result<(), QueueError> {
    loop {
        waits.during(WaitName::Lease, lease::renew(&client, &lease)).await?;
        sleep(lease::RENEWAL_PERIOD).await;
    }
}

/// Creates the queue's daily partitions ahead of time and drops old ones, every hour. While a lock
/// prevents it, such as a dump of the default partition, rows go to the default partition, it is
/// tried again later, and nothing else waits.
pub async fn maintain(database: Database, queue: Queue, lease: Lease) {
    loop {
        match pass(&database, &queue, &lease).await {
            Ok(done) => {
                report(&done);
                sleep(MAINTAIN_EVERY).await;
            }
            Err(error) => {
                tracing::warn!(
                    event = "parts_not_seen_to",
                    error,
                    "partition maintenance of the queue failed; trying again"
                );
                sleep(MAINTAIN_AGAIN).await;
            }
        }
    }
}

async fn pass(database: &Database, queue: &Queue, lease: &Lease) -> Result<Maintained, String> {
    let name = lease.application_name("maintain");
    let session = postgres::connect(database, &name).await.map_err(|error| error.to_string())?;
    let work = async {
        let maintainer = Maintainer::begin(&session.client, Some(lease)).await?;
        // The lock goes with the session.
        let done = maintainer.run(queue.completed_retention).await?;
        audit::prune(&session.client, queue.audit_retention).await?;
        Ok::<_, MaintainError>(done)
    };
    work.await.map_err(|error| error.to_string())
}

fn report(done: &Maintained) {
    let Maintained { made, dropped, kept, deleted } = done;
    if !dropped.is_empty() || *deleted > 0 {
        tracing::info!(
            event = "completed_jobs_cleaned_up",
            made,
            dropped = dropped.len(),
            deleted,
            "completed jobs were cleaned up"
        );
    }
    for (day, jobs) in kept {
        tracing::warn!(
            event = "day_kept",
            day,
            jobs,
            "a day that is over keeps its part: too many of its jobs are unfinished or failed"
        );
    }
}
