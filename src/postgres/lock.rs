//! Locks on tables that the application uses too.
//!
//! A request that waits makes later requests wait behind it, and a transaction that waits while it
//! holds other locks can be part of a deadlock. PostgreSQL ends a deadlock by aborting the
//! transaction that has waited for `deadlock_timeout` (1 s), which may be the application's.
//! Therefore every lock of walferry is waited for 100 ms at most. Then the transaction is rolled
//! back, which releases all of its locks, and begun again. Every tenth attempt of a lock that is
//! stronger than `access share` waits 1.5 s, for one table alone, so that autovacuum yields.
//!
//! Not here: the statements that take the locks, and row locks.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::{Disposition, Recovery};

/// The statement that limits each wait for a lock of the current transaction.
pub const LIMIT_WAITS: &str = "set local lock_timeout = '100ms'";

/// The same limit for a session.
pub const LIMIT_SESSION_WAITS: &str = "set lock_timeout = '100ms'";

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(150);

/// Autovacuum is cancelled only by a session that has waited for `deadlock_timeout`. So in every
/// tenth round each table is locked alone for that long, in a mode that admits reads and writes.
const CANCEL_AUTOVACUUM_EVERY: u32 = 10;

/// A wait of this length is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(2);

/// For an error of a lock that is free by now.
pub const ENDED: &str = "the transaction in the way has just ended";

const BLOCKERS: &str = include_str!("lock_blockers.sql");

/// The modes that walferry takes (PostgreSQL, "Table-Level Lock Modes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    AccessShare,
    ShareUpdateExclusive,
    ShareRowExclusive,
    AccessExclusive,
}

impl LockMode {
    /// The conflicting modes, as `pg_locks` prints them.
    fn conflicts(self) -> &'static [&'static str] {
        const ALL: &[&str] = &[
            "AccessExclusiveLock",
            "ExclusiveLock",
            "ShareRowExclusiveLock",
            "ShareLock",
            "ShareUpdateExclusiveLock",
            "RowExclusiveLock",
            "RowShareLock",
            "AccessShareLock",
        ];
        match self {
            Self::AccessShare => &ALL[..1],
            Self::ShareUpdateExclusive => &ALL[..5],
            Self::ShareRowExclusive => &ALL[..6],
            Self::AccessExclusive => ALL,
        }
    }
}

/// The tables that a transaction locks.
#[derive(Clone, Debug)]
pub struct TableLocks {
    /// Quoted, with their schemas.
    pub tables: Vec<String>,
    /// The strongest of the modes.
    pub mode: LockMode,
    /// The time for all attempts.
    pub patience: Duration,
}

/// A transaction that locks tables failed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "could not lock {tables} within {seconds} s: {blockers}; wait for the end of that \
         transaction, or end it with pg_terminate_backend"
    )]
    Blocked {
        tables: String,
        seconds: u64,
        blockers: String,
        #[source]
        source: Error,
    },
    #[error(transparent)]
    Database(#[from] Error),
}

impl Recovery for LockError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Blocked { .. } => Disposition::Retry,
            Self::Database(source) => source.disposition(),
        }
    }
}

impl TableLocks {
    /// Runs `step`, which begins with [`LIMIT_WAITS`] or in a session with that limit, until no
    /// other transaction is in its way. A step that fails is rolled back.
    ///
    /// # Errors
    /// [`LockError::Blocked`] after the time for all attempts; any other error at once.
    pub async fn retry<T, F>(
        &self,
        client: &Client,
        mut step: impl FnMut() -> F,
    ) -> Result<T, LockError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut attempts = LockAttempts::new(self);
        loop {
            let source = match step().await {
                Ok(value) => return Ok(value),
                Err(source) => source,
            };
            // Outside of a transaction block this is only a warning.
            drop(client.batch_execute("rollback").await);
            if !is_lock_failure(&source) {
                return Err(LockError::Database(source));
            }
            if !attempts.next(client).await {
                return Err(attempts.blocked(client, source).await);
            }
        }
    }

    /// The transactions that hold or await a lock in the way of these, as a part of a sentence;
    /// `None` if there are none any more.
    pub async fn blockers(&self, client: &Client) -> Option<String> {
        let modes = self.mode.conflicts();
        let found = client.query(BLOCKERS, &[&self.tables, &modes]).await.unwrap_or_default();
        let blockers: Vec<String> =
            found.iter().filter_map(|row| row.try_get("blocker").ok()).collect();
        if blockers.is_empty() { None } else { Some(blockers.join(", ")) }
    }

    /// Locks each table in a transaction of its own, so that an autovacuum of it is cancelled. A
    /// transaction that holds no other lock cannot be part of a deadlock.
    async fn cancel_autovacuum(&self, client: &Client) {
        for table in &self.tables {
            let lock = format!(
                "begin; set local lock_timeout = '1500ms'; \
                 lock table only {table} in share update exclusive mode"
            );
            // What it fails for is reported by the step itself.
            drop(client.batch_execute(&lock).await);
            drop(client.batch_execute("rollback").await);
        }
    }
}

/// The attempts at one step.
#[derive(Debug)]
pub struct LockAttempts<'a> {
    locks: &'a TableLocks,
    begun: Instant,
    count: u32,
    is_logged: bool,
}

impl<'a> LockAttempts<'a> {
    /// None has been made.
    #[must_use]
    pub fn new(locks: &'a TableLocks) -> Self {
        Self { locks, begun: Instant::now(), count: 0, is_logged: false }
    }

    /// Waits before the next attempt; false if the time for all attempts is over.
    pub async fn next(&mut self, client: &Client) -> bool {
        let waited = self.begun.elapsed();
        if waited >= self.locks.patience {
            return false;
        }
        if waited >= LOGGED_AFTER && !self.is_logged {
            self.is_logged = true;
            let blockers = self.locks.blockers(client).await.unwrap_or_default();
            tracing::warn!(
                event = "lock_awaited",
                tables = self.locks.tables.join(", "),
                blockers,
                "waiting for a lock"
            );
        }
        self.count += 1;
        if self.locks.mode != LockMode::AccessShare
            && self.count.is_multiple_of(CANCEL_AUTOVACUUM_EVERY)
        {
            self.locks.cancel_autovacuum(client).await;
        }
        sleep(PAUSE).await;
        true
    }

    /// The error after the last attempt.
    pub async fn blocked(&self, client: &Client, source: Error) -> LockError {
        LockError::Blocked {
            tables: self.locks.tables.join(", "),
            seconds: self.begun.elapsed().as_secs(),
            blockers: self.locks.blockers(client).await.unwrap_or_else(|| ENDED.to_owned()),
            source,
        }
    }
}

/// True if another transaction was in the way (`lock_not_available`, `deadlock_detected`).
#[must_use]
pub fn is_lock_failure(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED
    })
}
