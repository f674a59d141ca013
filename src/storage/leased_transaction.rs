//! The first statements of every transaction of a run on the queue: they lock the table of the lease
//! and read the epoch, so the lease stays with this run until the transaction ends.
//!
//! The lock is `row share` on the table: a successor, which takes it in `exclusive` mode before it
//! raises the epoch, waits for it, and the renewal does not. So a COPY that takes longer than the
//! lease's term does not cost the lease. A lock on the row would do the same, but where two sessions
//! share it with the renewal each transaction makes a multixact, which VACUUM must freeze later.
//!
//! Not here: taking and renewing the lease (`lease`).

use std::future::Future;

use futures_util::future::join3;
use tokio_postgres::{Client, Statement};

use super::lease::Lease;
use super::{QueueError, doing};
use crate::change::Micros;

/// The epoch is read by the statement after the lock: in `read committed` its snapshot is younger.
const BEGIN: &str = "begin isolation level read committed;
    lock table walferry.lease in row share mode";

const BEGIN_COUNTED: &str = "begin isolation level read committed;
    lock table walferry.lease in row share mode; set local walferry.counted = 'on'";

const READ_EPOCH: &str = "select clock_timestamp() as clock from walferry.lease
    where slot = $1 and epoch = $2";

/// Begins transactions that lock a lease first, and ends them.
#[derive(Debug)]
pub(super) struct LeasedTransaction {
    lease: Lease,
    lock: Statement,
}

impl LeasedTransaction {
    pub(super) async fn prepare(client: &Client, lease: &Lease) -> Result<Self, QueueError> {
        let lock = client.prepare(READ_EPOCH).await.map_err(doing("prepare the lease check"))?;
        Ok(Self { lease: lease.clone(), lock })
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Begins a transaction, locks the lease and polls `body`, whose statements are sent behind the
    /// lock in the same round trip. Returns what `body` returned and the database's clock; the
    /// transaction stays open. On any error it is rolled back, also where only the lock failed.
    pub(super) async fn begin<T>(
        &self,
        client: &Client,
        body: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<(T, Micros), QueueError> {
        self.begin_as(BEGIN, client, body).await
    }

    /// [`LeasedTransaction::begin`] for a transaction that counts the jobs it moves (`job_counts`):
    /// the queue's triggers do not count them again.
    pub(super) async fn begin_counted<T>(
        &self,
        client: &Client,
        body: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<(T, Micros), QueueError> {
        self.begin_as(BEGIN_COUNTED, client, body).await
    }

    async fn begin_as<T>(
        &self,
        begin: &str,
        client: &Client,
        body: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<(T, Micros), QueueError> {
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
            [&self.lease.slot, &self.lease.epoch];
        let (begun, locked, done) =
            join3(client.batch_execute(begin), client.query_opt(&self.lock, &parameters), body)
                .await;
        let outcome = match (begun, locked) {
            (Err(source), _) => Err(doing("begin a transaction")(source)),
            (_, Err(source)) => Err(doing("lock the lease")(source)),
            (Ok(()), Ok(None)) => Err(self.lease.lost()),
            (Ok(()), Ok(Some(row))) => {
                row.try_get("clock").map_err(doing("read the clock")).map(|clock: Micros| clock)
            }
        };
        match (outcome, done) {
            (Ok(clock), Ok(value)) => Ok((value, clock)),
            (Err(error), done) => {
                drop(done); // a COPY under way ends here, or the rollback would wait for it
                Err(rolled_back(client, error).await)
            }
            (Ok(_), Err(error)) => Err(rolled_back(client, error).await),
        }
    }

    /// One whole transaction: [`LeasedTransaction::begin`] and a commit.
    pub(super) async fn run<T>(
        &self,
        client: &Client,
        body: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let (value, _) = self.begin(client, body).await?;
        commit(client).await?;
        Ok(value)
    }
}

/// Commits a transaction that was begun under a lease, or without one.
pub(super) async fn commit(client: &Client) -> Result<(), QueueError> {
    client.batch_execute("commit").await.map_err(doing("commit"))
}

/// Rolls back and gives the error on. A rollback that fails has lost its connection, and the
/// transaction with it.
pub(super) async fn rolled_back(client: &Client, error: QueueError) -> QueueError {
    drop(client.batch_execute("rollback").await);
    error
}
