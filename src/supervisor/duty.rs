//! Duties that must not wait for each other: each has a task, and what it needs, of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;

use crate::config::Database;
use crate::postgres;
use crate::queue::lease::{self, Lease};
use crate::queue::{QueueError, partitions};

const PARTITIONS_EVERY: Duration = Duration::from_secs(3600);
const PARTITIONS_AGAIN: Duration = Duration::from_secs(60);

/// Renews the lease until it is lost.
///
/// # Errors
/// [`QueueError`]: somebody else has it, or the session is gone.
pub async fn renew(client: Arc<Client>, lease: Lease) -> Result<(), QueueError> {
    loop {
        lease::renew(&client, &lease).await?;
        sleep(lease::RENEWAL_PERIOD).await;
    }
}

/// Makes the queue's day partitions ahead, every hour. Where a lock stands in the way (a dump of
/// the default partition, for one) rows go to the default partition meanwhile, so it is tried
/// again and nothing else waits.
pub async fn make_partitions(database: Database, lease: Lease) {
    loop {
        let name = lease.application_name("partitions");
        let made = match postgres::connect(&database, &name).await {
            Ok(session) => partitions::make(&session.client, partitions::DAYS_AHEAD)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match made {
            Ok(_) => sleep(PARTITIONS_EVERY).await,
            Err(error) => {
                tracing::warn!(error, "the queue's partitions were not made ahead; trying again");
                sleep(PARTITIONS_AGAIN).await;
            }
        }
    }
}
