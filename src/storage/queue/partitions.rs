//! The queue's day parts, made ahead.
//!
//! Not here: dropping old ones (`maintain`).

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::storage::{QueueError, doing};

/// How many days ahead parts are made.
pub const DAYS_AHEAD: i32 = 3;

/// Attempts at a lock that a running transaction holds against us.
const ATTEMPTS_MAX: u32 = 20;

const PAUSE: Duration = Duration::from_millis(250);

/// Makes the parts from yesterday to `days_ahead` days from now (UTC), and moves rows that the
/// default part caught for them. Safe to repeat, and beside other instances. Returns how many
/// were made.
///
/// # Errors
/// [`QueueError::Database`], also when the locks could not be had in some 45 s.
pub async fn make(client: &Client, days_ahead: i32) -> Result<i32, QueueError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_make(client, days_ahead).await {
            Err(error) if attempt < ATTEMPTS_MAX && waits_for_lock(&error) => {
                drop(client.batch_execute("rollback").await);
                sleep(PAUSE).await;
            }
            Err(error) => {
                drop(client.batch_execute("rollback").await);
                return Err(doing("make the queue's day partitions")(error));
            }
            Ok(made) => return Ok(made),
        }
    }
}

async fn try_make(client: &Client, days_ahead: i32) -> Result<i32, tokio_postgres::Error> {
    client.batch_execute("begin; set local lock_timeout = '2s'").await?;
    let row =
        client.query_one("select walferry.make_partitions($1) as made", &[&days_ahead]).await?;
    let made = row.try_get("made")?;
    client.batch_execute("commit").await?;
    Ok(made)
}

/// Another transaction was in the way, which has ended by the next attempt.
pub(in crate::storage) fn waits_for_lock(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}
