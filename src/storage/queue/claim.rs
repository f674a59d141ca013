//! The table as a feed: unfinished jobs, in the order of commit.
//!
//! A run begins with [`Claimer::reset_orphans`]: whatever a dead epoch left `processing` is
//! `pending` again. What comes again later (a retry that is due, a job that an operator made
//! `pending`) is found by [`Claimer::due`], rows that something else inserted by
//! [`Claimer::unplaced`].
//!
//! Not here: when to stop, and what becomes of a job.

use std::sync::Arc;

use postgres_types::PgLsn;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::job_counts::{Counter, Delta};
use super::record_id::TableKeys;
use super::row_images::Rows;
use super::settle::SESSION;
use super::status::Status;
use crate::change::Micros;
use crate::change::{Change, Columns, Operation, Position};
use crate::storage::lease::Lease;
use crate::storage::leased_transaction::LeasedTransaction;
use crate::storage::sql::{RawUuid, bigint, count, pg_lsn, position as at};
use crate::storage::{QueueError, doing};

const RESET_ORPHANS: &str = "update public.elasticsearch_sync_queue
    set status = 'pending', started_at = null, epoch = null
    where status = 'processing' and epoch <> $1";

/// A row's position is one of the stream that walferry has recorded.
macro_rules! placed {
    () => {
        "(ordinal is not null and (commit_lsn, ordinal) <= (
            select recorded_lsn, recorded_ordinal from walferry.position where slot = $2))"
    };
}

/// Claims what the given select finds. In the update `status || ''` keeps the index on status out,
/// as in `settle`. A row that somebody holds is passed over: one forgotten transaction must not halt
/// the feed. A later look meets it.
macro_rules! claiming {
    ($($due:expr),+) => {
        concat!(
            "with due as materialized (", $($due,)+ " limit $3 for no key update skip locked)
            update public.elasticsearch_sync_queue q
            set status = 'processing', started_at = clock_timestamp(), epoch = $4
            from due
            where q.id = due.id and q.created_at = due.created_at and q.status || '' = 'pending'
            returning q.id, q.created_at, q.xid, q.commit_lsn, q.ordinal, q.table_name, q.operation,
                q.change_data::text, q.error_message, q.retry_count, q.record_id"
        )
    };
}

/// The parts of a look for pending jobs whose wait is over.
macro_rules! waited {
    () => {
        "from public.elasticsearch_sync_queue
        where status = 'pending' and table_name = any ($1)
          and (next_attempt_at is null or next_attempt_at <= clock_timestamp()) and "
    };
}

/// The inner select is fenced: else the unique index may be walked from its beginning, over all
/// completed jobs.
const LOWEST_UNFINISHED: &str = concat!(
    "select commit_lsn, ordinal from (
        select commit_lsn, ordinal from public.elasticsearch_sync_queue
        where status in ('pending', 'processing') and table_name = any ($1) and ",
    placed!(),
    " offset 0) unfinished order by commit_lsn, ordinal limit 1"
);

const COUNT_PENDING: &str = "select count(*) filter (where table_name = any ($1)),
        count(*) filter (where table_name <> all ($1))
    from public.elasticsearch_sync_queue where status = 'pending'";

/// After `$5`, `$6`, up to `$7`, `$8`.
const CLAIM: &str = claiming!(
    "select id, created_at ",
    waited!(),
    placed!(),
    " and (commit_lsn, ordinal) > ($5, $6) and (commit_lsn, ordinal) <= ($7, $8)
    order by commit_lsn, ordinal"
);

/// What a cursor at `$5`, `$6` has passed. The oldest first.
const DUE: &str = claiming!(
    "select id, created_at ",
    waited!(),
    placed!(),
    " and (commit_lsn, ordinal) <= ($5, $6) order by created_at, id"
);

/// What is not on the stream: rows without a position, or with one that was never recorded.
const UNPLACED: &str = claiming!(
    "select id, created_at ",
    waited!(),
    placed!(),
    " is not true order by created_at, id"
);

const ANY_UNPLACED: &str = concat!("select exists (select ", waited!(), placed!(), " is not true)");

/// Looked at without a transaction, so that an idle queue costs nothing but two index probes.
const ANY_DUE: &str = "select
    exists (select from public.elasticsearch_sync_queue
            where status = 'pending' and table_name = any ($1)
              and (next_attempt_at is null or next_attempt_at <= clock_timestamp())),
    exists (select from public.elasticsearch_sync_queue
            where status = 'pending' and table_name <> all ($1))";

/// Nobody could ever do these.
const REFUSE_UNKNOWN: &str = "update public.elasticsearch_sync_queue q
    set status = 'failed', processed_at = clock_timestamp(), next_attempt_at = null,
        error_message = format('table %s is not in the definition of documents; add it there and '
            'retry this job, or clear it', q.table_name)
    where q.status = 'pending' and (q.id, q.created_at) in (
        select id, created_at from public.elasticsearch_sync_queue
        where status = 'pending' and table_name <> all ($1)
        limit 10000 for no key update skip locked)";

/// A job claimed from the table.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: i64,
    /// The commit's time in microseconds since 1970-01-01 UTC; with `id` it finds the row.
    pub created_at: i64,
    /// The transaction with its epoch.
    pub xid: Option<u64>,
    /// Failed attempts so far.
    pub retry_count: u32,
    /// Names the row where `change` cannot.
    pub record_id: Uuid,
    /// As it was recorded. Its rows may be altered or missing where `incomplete` is set: then only
    /// a read tells.
    pub change: Change,
    /// It has no place of its own in the stream: `change.position` says nothing.
    pub foreign: bool,
}

/// Jobs that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Of configured tables.
    pub known: u64,
    /// Of other tables: never claimed.
    pub unknown: u64,
}

/// Claims jobs on a connection of its own.
#[derive(Debug)]
pub struct Claimer {
    client: Client,
    guard: LeasedTransaction,
    keys: Arc<TableKeys>,
    names: Arc<Vec<String>>,
    claim: Statement,
    due: Statement,
    unplaced: Statement,
    counter: Counter,
    /// The last columns seen, by table, old row and new.
    columns: Vec<[Option<Arc<Columns>>; 2]>,
}

impl Claimer {
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn new(
        client: Client,
        lease: &Lease,
        keys: Arc<TableKeys>,
    ) -> Result<Self, QueueError> {
        client.batch_execute(SESSION).await.map_err(doing("prepare the claim"))?;
        Ok(Self {
            guard: LeasedTransaction::prepare(&client, lease).await?,
            names: Arc::new(keys.0.iter().map(|key| key.name.clone()).collect()),
            columns: vec![[None, None]; keys.0.len()],
            counter: Counter::prepare(&client, lease, "claim").await?,
            claim: client.prepare(CLAIM).await.map_err(doing("prepare the claim"))?,
            due: client.prepare(DUE).await.map_err(doing("prepare the claim"))?,
            unplaced: client.prepare(UNPLACED).await.map_err(doing("prepare the claim"))?,
            keys,
            client,
        })
    }

    /// Makes `pending` again what other epochs left `processing`. Returns how many.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn reset_orphans(&mut self) -> Result<u64, QueueError> {
        let epoch = self.guard.lease().epoch;
        let body = async {
            let reset = self.client.execute(RESET_ORPHANS, &[&epoch]).await;
            reset.map_err(doing("reset jobs of a dead run"))
        };
        self.guard.run(&self.client, body).await
    }

    /// The position of the first job that is not finished, due or not.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn lowest_unfinished(&self) -> Result<Option<Position>, QueueError> {
        let failed = doing("look for unfinished jobs");
        let slot = &self.guard.lease().slot;
        let row = self
            .client
            .query_opt(LOWEST_UNFINISHED, &[&*self.names, slot])
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let lsn: PgLsn = row.try_get(0).map_err(&failed)?;
        Ok(Some(at(lsn, row.try_get(1).map_err(&failed)?)))
    }

    /// How many jobs are `pending`.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn count_pending(&self) -> Result<Waiting, QueueError> {
        let failed = doing("count pending jobs");
        let row = self.client.query_one(COUNT_PENDING, &[&*self.names]).await.map_err(&failed)?;
        Ok(Waiting {
            known: count(row.try_get(0).map_err(&failed)?),
            unknown: count(row.try_get(1).map_err(&failed)?),
        })
    }

    /// Makes the next `limit` pending jobs after `after`, up to and including `up_to`, that are
    /// due `processing` under this epoch, and returns them in the order of commit. Fewer than
    /// `limit` means that there are no more.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn claim(
        &mut self,
        after: Position,
        up_to: Option<Position>,
        limit: u32,
    ) -> Result<Vec<Job>, QueueError> {
        let (after_lsn, after_ordinal) = (pg_lsn(after.commit_lsn), bigint(after.ordinal));
        let last_lsn = up_to.map_or(PgLsn::from(u64::MAX), |last| pg_lsn(last.commit_lsn));
        let last_ordinal = up_to.map_or(i64::MAX, |last| bigint(last.ordinal));
        let place: [&(dyn ToSql + Sync); 4] =
            [&after_lsn, &after_ordinal, &last_lsn, &last_ordinal];
        let mut jobs = self.take(&self.claim.clone(), &place, limit).await?;
        jobs.sort_unstable_by_key(|job| job.change.position);
        Ok(jobs)
    }

    /// Makes jobs `processing` that are due and that a cursor has passed (`behind`; all of the
    /// stream where the feed is live). Fewer than `limit` means that there are no more. Jobs of
    /// tables that are not configured become `failed`.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn due(
        &mut self,
        behind: Option<Position>,
        limit: u32,
    ) -> Result<Vec<Job>, QueueError> {
        let failed = doing("look for jobs that are due");
        let row = self.client.query_one(ANY_DUE, &[&*self.names]).await.map_err(&failed)?;
        if row.try_get(1).map_err(&failed)? {
            let body = async {
                let refused = self.client.execute(REFUSE_UNKNOWN, &[&*self.names]).await;
                refused.map_err(doing("refuse jobs of unknown tables"))
            };
            let refused = self.guard.run(&self.client, body).await?;
            tracing::warn!(
                event = "jobs_of_unknown_tables",
                jobs = refused,
                "jobs of tables that are not in the definition failed"
            );
        }
        if !row.try_get(0).map_err(&failed)? {
            return Ok(Vec::new());
        }
        let lsn = behind.map_or(PgLsn::from(u64::MAX), |behind| pg_lsn(behind.commit_lsn));
        let ordinal = behind.map_or(i64::MAX, |behind| bigint(behind.ordinal));
        let mut jobs = self.take(&self.due.clone(), &[&lsn, &ordinal], limit).await?;
        jobs.sort_unstable_by_key(|job| job.change.position);
        Ok(jobs)
    }

    /// Whether jobs are due that are not on the stream.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn any_unplaced(&self) -> Result<bool, QueueError> {
        let slot = &self.guard.lease().slot;
        let row = self.client.query_one(ANY_UNPLACED, &[&*self.names, slot]).await;
        row.and_then(|row| row.try_get(0)).map_err(doing("look for jobs without a place"))
    }

    /// Makes jobs `processing` that are due and not on the stream. Fewer than `limit` means that
    /// there are no more.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn unplaced(&mut self, limit: u32) -> Result<Vec<Job>, QueueError> {
        let mut jobs = self.take(&self.unplaced.clone(), &[], limit).await?;
        jobs.iter_mut().for_each(|job| job.foreign = true);
        jobs.sort_unstable_by_key(|job| job.id);
        Ok(jobs)
    }

    /// Claims by a statement, under the lease. `place` is what it takes from `$5` on.
    async fn take(
        &mut self,
        statement: &Statement,
        place: &[&(dyn ToSql + Sync)],
        limit: u32,
    ) -> Result<Vec<Job>, QueueError> {
        let (lease, limit) = (self.guard.lease(), i64::from(limit));
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&*self.names, &lease.slot, &limit, &lease.epoch];
        parameters.extend(place);
        let body =
            async { self.client.query(statement, &parameters).await.map_err(doing("claim jobs")) };
        let (rows, _) = self.guard.begin_counted(&self.client, body).await?;
        let created: Result<Vec<Micros>, _> = rows.iter().map(|row| row.try_get(1)).collect();
        let created = created.map_err(doing("read a claimed job"))?;
        let mut delta = Delta::default();
        delta.went(created.iter().map(|at| at.0), Status::Pending, Status::Processing);
        self.counter.commit(&self.client, &delta).await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            jobs.push(self.job(row).map_err(doing("read a claimed job"))?);
        }
        Ok(jobs)
    }

    fn job(&mut self, row: &tokio_postgres::Row) -> Result<Job, tokio_postgres::Error> {
        let created_at: Micros = row.try_get(1)?;
        let xid = row.try_get::<_, Option<i64>>(2)?.map(count);
        let table = self
            .keys
            .id_of(row.try_get(5)?)
            .expect("only jobs of the tables in this list are claimed");
        let operation = operation(row.try_get(6)?);
        let rows = Rows::parse(operation, row.try_get(7)?, &mut self.columns[usize::from(table.0)]);
        let note = row.try_get::<_, Option<&str>>(8)?.and_then(note);
        let (lsn, ordinal) = (row.try_get::<_, Option<PgLsn>>(3)?, row.try_get(4)?);
        let place: Option<Position> = lsn.zip(ordinal).map(|(lsn, ordinal)| at(lsn, ordinal));
        let complete = rows.is_some();
        let Rows { old, new } = rows.unwrap_or_default();
        Ok(Job {
            id: row.try_get(0)?,
            created_at: created_at.0,
            xid,
            retry_count: row
                .try_get::<_, Option<i32>>(9)?
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or_default(),
            record_id: row.try_get::<_, RawUuid>(10)?.0,
            change: Change {
                position: place.unwrap_or_default(),
                xid: low_half(xid.unwrap_or_default()),
                committed_at: created_at.0,
                table,
                operation: operation.unwrap_or(Operation::Update),
                old,
                new,
                incomplete: !complete || note.is_some(),
                note,
            },
            foreign: false,
        })
    }
}

fn low_half(xid: u64) -> u32 {
    u32::try_from(xid & u64::from(u32::MAX)).expect("masked to 32 bits")
}

fn operation(word: &str) -> Option<Operation> {
    [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate]
        .into_iter()
        .find(|operation| operation.as_str() == word)
}

/// The note that the recorder left, without its prefix.
fn note(error_message: &str) -> Option<Arc<str>> {
    error_message.lines().find_map(|line| line.strip_prefix("note: ")).map(Arc::from)
}
