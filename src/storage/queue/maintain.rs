//! Keeps the queue's parts: makes days ahead, drops days that are over.
//!
//! A day is over when all of it is older than the time for which completed jobs are kept. Its part
//! is dropped as a whole; what is not completed moves to the default part in the same transaction.
//! A part with more of these than can be moved in a moment stays, without its completed jobs, as
//! the default part is kept: by deleting a stretch of pages at a time.
//!
//! Not here: when this is done (`engine::supervisor::upkeep`, `command::maintain`), and how a part is made.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::partitions::{DEFAULT_PART, QUEUE};
use super::{job_counts as counts, partitions};
use crate::postgres::lock::{LIMIT_WAITS, LockAttempts, LockMode, TableLocks, is_lock_failure};
use crate::storage::advisory::{self, Holder};
use crate::storage::lease::Lease;
use crate::storage::leased_transaction;
use crate::storage::leased_transaction::LeasedTransaction;
use crate::storage::sql::count;
use crate::storage::{QueueError, doing};

/// One pass at a time in a database. \"maintain\" in ASCII.
const ADVISORY_LOCK: i64 = 0x6d61_696e_7461_696e;

const LOCK: &str = "select pg_try_advisory_lock($1) as is_ours";

const UNLOCK: &str = "select pg_advisory_unlock($1)";

/// Rows that move while no session can write.
const SURVIVORS_MAX: i64 = 5_000;

/// Pages whose completed jobs go in one transaction: some thousands of jobs.
const STRETCH_PAGES: i64 = 128;

/// The time for all attempts at the locks of one part.
const PATIENCE: Duration = Duration::from_secs(30);

/// For errors.
const DROPPING: &str = "drop an old part of the queue";
const DELETING: &str = "delete old completed jobs";
const LOOKING: &str = "look at the queue's parts";

const OLD: &str = include_str!("maintain_old.sql");

/// The first day that is kept.
const FIRST_KEPT: &str =
    "select ((clock_timestamp() - make_interval(secs => $1)) at time zone 'UTC')::date::text
        as first_kept";

const DROP: &str = "select walferry.drop_partition($1::text::date, $2) as moved";

/// Days that get a part, from `$1` to `$2` days ahead.
const MISSING: &str = "select count(*) as number
    from walferry.days_without_partition($1::text::date, $2)";

/// What a pass did; of a dry run, what it would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Day parts made ahead.
    pub made: u64,
    /// Parts dropped: the day, and how many jobs moved to the default part.
    pub dropped: Vec<(String, u64)>,
    /// Days over whose parts hold too many unfinished or failed jobs to move: the day, how many.
    pub kept: Vec<(String, u64)>,
    /// Completed jobs deleted one by one.
    pub deleted: u64,
}

/// The pass was not made, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    #[error(
        "{0} makes a pass over the queue's parts in this database; try again when it has ended"
    )]
    Busy(Holder),
    #[error("the database is not prepared; run `walferry migrate`")]
    NotMigrated,
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// One session's work on the parts.
#[derive(Debug)]
pub struct Maintainer<'a> {
    client: &'a Client,
    /// Of a running instance: its transactions lock the lease first.
    guard: Option<LeasedTransaction>,
}

impl<'a> Maintainer<'a> {
    /// Takes the one lock on passes; it goes with [`Maintainer::release`] or the session.
    ///
    /// # Errors
    /// [`MaintainError::Busy`], [`MaintainError::NotMigrated`], [`MaintainError::Queue`].
    pub async fn begin(client: &'a Client, lease: Option<&Lease>) -> Result<Self, MaintainError> {
        let founded = "select to_regprocedure('walferry.add_partition(date, bigint)') is not null
            as is_there";
        let row = client.query_one(founded, &[]).await.map_err(doing(LOOKING))?;
        if !row.try_get::<_, bool>("is_there").map_err(doing(LOOKING))? {
            return Err(MaintainError::NotMigrated);
        }
        let guard = match lease {
            Some(lease) => Some(LeasedTransaction::prepare(client, lease).await?),
            None => None,
        };
        let row = client.query_one(LOCK, &[&ADVISORY_LOCK]).await.map_err(doing(LOOKING))?;
        if !row.try_get::<_, bool>("is_ours").map_err(doing(LOOKING))? {
            match advisory::holder(client, ADVISORY_LOCK).await.map_err(doing(LOOKING))? {
                Some(holder) if holder.is_ours => return Err(MaintainError::Busy(holder)),
                // It has ended, or it is no pass: any login may take the lock. Passes that meet wait
                // for the locks of the tables, so that one without this lock is safe.
                Some(holder) => tracing::warn!(
                    event = "lock_held_by_stranger",
                    pid = holder.pid,
                    role = holder.role,
                    application = holder.application,
                    "another role's session holds the lock on partition maintenance; it is not waited for"
                ),
                None => {}
            }
        }
        Ok(Self { client, guard })
    }

    /// Lets the next pass begin.
    ///
    /// # Errors
    /// [`QueueError`]: the session is gone, and the lock with it.
    pub async fn release(self) -> Result<(), QueueError> {
        let unlocked = self.client.execute(UNLOCK, &[&ADVISORY_LOCK]).await;
        unlocked.map(drop).map_err(doing("end the pass over the queue's parts"))
    }

    /// Makes parts ahead, drops those over, deletes completed jobs older than `retention` where no
    /// part goes, and forgets jobs that were discarded more than a day ago. May be cut off anywhere and
    /// repeated.
    ///
    /// # Errors
    /// [`QueueError`]; what was done stays done.
    pub async fn run(&self, retention: Duration) -> Result<Maintained, QueueError> {
        let first_kept = self.first_kept(retention).await?;
        let made = partitions::make(self.client, Some(&first_kept), partitions::DAYS_AHEAD).await?;
        let mut report =
            Maintained { made: u64::try_from(made).unwrap_or(0), ..Default::default() };
        for (part, day) in self.old(&first_kept).await? {
            let survivors = self.survivors(&part).await?;
            let moved =
                if survivors > count(SURVIVORS_MAX) { None } else { self.drop(&day).await? };
            match moved {
                Some(moved) => report.dropped.push((day, moved)),
                None => {
                    report.deleted += self.delete_completed(&part, &first_kept).await?;
                    report.kept.push((day, survivors));
                }
            }
        }
        report.deleted += self.delete_completed("queue_default", &first_kept).await?;
        counts::merge(self.client).await?;
        self.forget_discarded().await?;
        Ok(report)
    }

    async fn forget_discarded(&self) -> Result<(), QueueError> {
        const FORGET: &str = "delete from walferry.discarded_job
            where discarded_at < clock_timestamp() - interval '1 day'";
        let forgotten = self.client.execute(FORGET, &[]).await;
        forgotten.map(drop).map_err(doing("forget discarded jobs"))
    }

    /// What [`Maintainer::run`] would do. Alters nothing.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn plan(&self, retention: Duration) -> Result<Maintained, QueueError> {
        let first_kept = self.first_kept(retention).await?;
        let made = self.number(MISSING, &[&first_kept, &partitions::DAYS_AHEAD]).await?;
        let mut report = Maintained { made, ..Default::default() };
        for (part, day) in self.old(&first_kept).await? {
            let survivors = self.survivors(&part).await?;
            if survivors > count(SURVIVORS_MAX) {
                report.deleted += self.completed(&part, &first_kept).await?;
                report.kept.push((day, survivors));
            } else {
                report.dropped.push((day, survivors));
            }
        }
        report.deleted += self.completed("queue_default", &first_kept).await?;
        Ok(report)
    }

    /// How many jobs the statistics are off by, status by status; with `mend` they are exact
    /// afterwards. Reads all rows, beside writers.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn recount(&self, mend: bool) -> Result<u64, QueueError> {
        counts::recount(self.client, mend).await
    }

    async fn first_kept(&self, retention: Duration) -> Result<String, QueueError> {
        let row = self.client.query_one(FIRST_KEPT, &[&retention.as_secs_f64()]).await;
        row.and_then(|row| row.try_get("first_kept")).map_err(doing(LOOKING))
    }

    async fn old(&self, first_kept: &str) -> Result<Vec<(String, String)>, QueueError> {
        let rows = self.client.query(OLD, &[&first_kept]).await.map_err(doing(LOOKING))?;
        let read = rows.iter().map(|row| Ok((row.try_get("part")?, row.try_get("day")?)));
        read.collect::<Result<_, _>>().map_err(doing(LOOKING))
    }

    /// Through the partial index.
    async fn survivors(&self, part: &str) -> Result<u64, QueueError> {
        let sql =
            format!("select count(*) as number from walferry.{part} where status <> 'completed'");
        self.number(&sql, &[]).await
    }

    async fn completed(&self, part: &str, first_kept: &str) -> Result<u64, QueueError> {
        let sql = format!(
            "select count(*) as number from walferry.{part}
            where status = 'completed' and created_at < $1::text::date::timestamp at time zone 'UTC'"
        );
        self.number(&sql, &[&first_kept]).await
    }

    async fn number(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, QueueError> {
        let row = self.client.query_one(sql, values).await.map_err(doing(LOOKING))?;
        Ok(count(row.try_get("number").map_err(doing(LOOKING))?))
    }

    /// `None` where the part is gone or has come to hold too much.
    async fn drop(&self, day: &str) -> Result<Option<u64>, QueueError> {
        let part = format!("walferry.queue_p{}", day.replace('-', ""));
        let locks = TableLocks {
            tables: vec![QUEUE.to_owned(), part, DEFAULT_PART.to_owned()],
            mode: LockMode::AccessExclusive,
            patience: PATIENCE,
        };
        let mut attempts = LockAttempts::new(&locks);
        loop {
            let body = async {
                self.client.batch_execute(LIMIT_WAITS).await.map_err(doing(DROPPING))?;
                let dropped = self.client.query_one(DROP, &[&day, &SURVIVORS_MAX]).await;
                let dropped = dropped.map_err(doing(DROPPING))?;
                dropped.try_get::<_, Option<i64>>("moved").map_err(doing(DROPPING))
            };
            match self.transaction(body).await {
                Err(QueueError::Database { source, .. }) if is_lock_failure(&source) => {
                    if !attempts.next(self.client).await {
                        return Err(attempts.blocked(self.client, source).await.into());
                    }
                }
                outcome => return Ok(outcome?.map(count)),
            }
        }
    }

    async fn delete_completed(&self, part: &str, first_kept: &str) -> Result<u64, QueueError> {
        let pages = "select pg_relation_size(('walferry.' || $1::text)::regclass)
            / current_setting('block_size')::bigint as number";
        let pages = i64::try_from(self.number(pages, &[&part]).await?).unwrap_or(i64::MAX);
        let delete = format!(
            "delete from walferry.{part}
            where ctid >= format('(%s,0)', $1::bigint)::tid
              and ctid < format('(%s,0)', $2::bigint)::tid
              and status || '' = 'completed'
              and created_at < $3::text::date::timestamp at time zone 'UTC'"
        );
        let delete = self.client.prepare(&delete).await.map_err(doing(DELETING))?;
        let mut deleted = 0;
        let mut first = 0;
        while first < pages {
            let end = first + STRETCH_PAGES;
            deleted += self
                .transaction(async {
                    let rows = self.client.execute(&delete, &[&first, &end, &first_kept]).await;
                    rows.map_err(doing(DELETING))
                })
                .await?;
            first = end;
        }
        Ok(deleted)
    }

    async fn transaction<T>(
        &self,
        body: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        if let Some(guard) = &self.guard {
            return guard.run(self.client, body).await;
        }
        self.client.batch_execute("begin").await.map_err(doing("begin a transaction"))?;
        match body.await {
            Ok(value) => leased_transaction::commit(self.client).await.map(|()| value),
            Err(error) => Err(leased_transaction::rolled_back(self.client, error).await),
        }
    }
}
