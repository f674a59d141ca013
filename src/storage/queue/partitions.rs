//! The queue's day parts, made ahead.
//!
//! Not here: dropping old ones (`maintain`).

use std::time::Duration;

use tokio_postgres::Client;

use crate::postgres::lock::{LIMIT_WAITS, LockError, LockMode, TableLocks};
use crate::storage::{QueueError, doing};

/// How many days ahead parts are made.
pub const DAYS_AHEAD: i32 = 3;

/// The queue as a whole.
pub const QUEUE: &str = "public.elasticsearch_sync_queue";

/// The part for rows of days that have none.
pub const DEFAULT_PART: &str = "walferry.queue_default";

/// The time for all attempts at the locks.
const PATIENCE: Duration = Duration::from_secs(45);

/// Makes the parts from yesterday to `days_ahead` days from now (UTC), and moves rows that the
/// default part caught for them. Safe to repeat, and beside other instances. Returns how many
/// were made.
///
/// # Errors
/// [`QueueError::Lock`] where the locks could not be had in some 45 s; [`QueueError::Database`].
pub async fn make(client: &Client, days_ahead: i32) -> Result<i32, QueueError> {
    let locks = TableLocks {
        tables: vec![QUEUE.to_owned(), DEFAULT_PART.to_owned()],
        mode: LockMode::AccessExclusive,
        patience: PATIENCE,
    };
    let made = locks.retry(client, || try_make(client, days_ahead)).await;
    made.map_err(|error| match error {
        LockError::Database(source) => doing("make the queue's day partitions")(source),
        blocked @ LockError::Blocked { .. } => QueueError::Lock(blocked),
    })
}

async fn try_make(client: &Client, days_ahead: i32) -> Result<i32, tokio_postgres::Error> {
    client.batch_execute(&format!("begin; {LIMIT_WAITS}")).await?;
    let row =
        client.query_one("select walferry.make_partitions($1) as made", &[&days_ahead]).await?;
    let made = row.try_get("made")?;
    client.batch_execute("commit").await?;
    Ok(made)
}
