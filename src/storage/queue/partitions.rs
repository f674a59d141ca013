//! The queue's day parts, made ahead.
//!
//! The default part takes the rows of days that have no part. A part can be attached only once the
//! default part has no row of its day, and readers and writers of the default part wait for the
//! attachment. So it is done for an amount of work that takes a moment:
//! - A day that has not begun gets a constraint on the default part first. Once that is validated,
//!   which no session waits for, the default part is not scanned.
//! - Of any other day few rows are moved, out of a small default part. A day of which the default
//!   part has more stays there: its completed jobs are deleted when it is over.
//!
//! Not here: dropping old ones (`maintain`).

use std::future::Future;
use std::time::Duration;

use tokio_postgres::{Client, Error};

use crate::postgres::lock::{LIMIT_WAITS, LockError, LockMode, TableLocks};
use crate::storage::{QueueError, doing};

/// How many days ahead parts are made.
pub const DAYS_AHEAD: i32 = 3;

/// The queue as a whole.
pub const QUEUE: &str = "public.elasticsearch_sync_queue";

/// The part for rows of days that have none.
pub const DEFAULT_PART: &str = "walferry.queue_default";

/// The time for all attempts at the locks of one step.
const PATIENCE: Duration = Duration::from_secs(45);

/// Rows that are moved while readers and writers wait.
const ROWS_MAX: i64 = 5_000;

/// Bytes that are moved, and bytes that are scanned, while readers and writers wait.
const BYTES_MAX: i64 = 64 << 20;

const MAKING: &str = "make the queue's day partitions";

const DAYS: &str = "select day::text as day, is_future
    from walferry.days_without_partition($1::text::date, $2)";

const IS_SMALL: &str = "select walferry.is_partition_small($1::text::date, $2, $3, $4)
    as is_small";

const VALIDATE: &str = "select walferry.validate_excluded_day()";

/// Makes the parts from yesterday to `days_ahead` days from now (UTC), and those of earlier days
/// from `first_day` on that the default part has rows of. Safe to repeat, and beside other
/// instances. Returns how many were made.
///
/// # Errors
/// [`QueueError::Lock`] where the locks could not be had in some 45 s; [`QueueError::Database`].
pub async fn make(
    client: &Client,
    first_day: Option<&str>,
    days_ahead: i32,
) -> Result<i32, QueueError> {
    Maker::new(client, PATIENCE).make(first_day, days_ahead).await
}

/// As [`make`] without earlier days, for locks that are free within `patience`.
///
/// # Errors
/// As [`make`].
pub async fn make_within(client: &Client, patience: Duration) -> Result<i32, QueueError> {
    Maker::new(client, patience).make(None, DAYS_AHEAD).await
}

/// Makes parts in one session.
struct Maker<'a> {
    client: &'a Client,
    locks: TableLocks,
}

impl<'a> Maker<'a> {
    fn new(client: &'a Client, patience: Duration) -> Self {
        let tables = vec![QUEUE.to_owned(), DEFAULT_PART.to_owned()];
        Self { client, locks: TableLocks { tables, mode: LockMode::AccessExclusive, patience } }
    }

    async fn make(&self, first_day: Option<&str>, days_ahead: i32) -> Result<i32, QueueError> {
        let days = self.client.query(DAYS, &[&first_day, &days_ahead]).await;
        let days = days.map_err(doing(MAKING))?;
        if days.is_empty() {
            return Ok(0);
        }
        self.step("select walferry.admit_all_days()").await?;
        let mut made = 0;
        for row in &days {
            let day: String = row.try_get("day").map_err(doing(MAKING))?;
            let is_future = row.try_get("is_future").map_err(doing(MAKING))?;
            made += i32::from(self.make_day(&day, is_future).await?);
        }
        Ok(made)
    }

    /// Makes the part of one day; false if the day stays in the default part.
    async fn make_day(&self, day: &str, is_future: bool) -> Result<bool, QueueError> {
        let row = self.client.query_one(IS_SMALL, &[&day, &is_future, &ROWS_MAX, &BYTES_MAX]).await;
        let is_small: Option<bool> =
            row.and_then(|row| row.try_get("is_small")).map_err(doing(MAKING))?;
        match is_small {
            None => {
                self.step(&format!("select walferry.exclude_day('{day}')")).await?;
                if let Err(error) = self.step(VALIDATE).await {
                    self.step("select walferry.admit_all_days()").await?;
                    return Err(error);
                }
            }
            Some(false) => return Ok(false),
            Some(true) => {}
        }
        self.retry(|| self.add(day)).await
    }

    async fn step(&self, sql: &str) -> Result<(), QueueError> {
        let step = format!("begin; {LIMIT_WAITS}; {sql}; commit");
        self.retry(|| self.client.batch_execute(&step)).await
    }

    async fn add(&self, day: &str) -> Result<bool, Error> {
        self.client.batch_execute(&format!("begin; {LIMIT_WAITS}")).await?;
        let add = "select walferry.add_partition($1::text::date, $2) as is_added";
        let row = self.client.query_one(add, &[&day, &ROWS_MAX]).await?;
        let is_added = row.try_get("is_added")?;
        self.client.batch_execute(if is_added { "commit" } else { "rollback" }).await?;
        Ok(is_added)
    }

    async fn retry<T, F>(&self, step: impl FnMut() -> F) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.locks.retry(self.client, step).await.map_err(|error| match error {
            LockError::Database(source) => doing(MAKING)(source),
            blocked @ LockError::Blocked { .. } => QueueError::Lock(blocked),
        })
    }
}
