//! The table as a feed: unfinished jobs, in the order of commit.
//!
//! A run begins with [`Claimer::reset_orphans`]: what a dead epoch left `processing` is
//! `pending` again. What comes again later (a retry that is due, a job that an operator made
//! `pending`) is found by [`Claimer::due`], rows that something else inserted by
//! [`Claimer::without_position`]. Jobs that wait for an index are found by none of these before
//! [`Claimer::release`].
//!
//! Not here: when to stop, and what becomes of a job.

use std::collections::VecDeque;
use std::sync::Arc;

use postgres_types::PgLsn;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::job_counts::{Counter, Delta};
use super::record_id::TableKeys;
use super::row_images::Rows;
use super::settle::SESSION;
use super::status::Status;
use crate::change::Micros;
use crate::change::{Change, Columns, Operation, Position, TableId};
use crate::storage::lease::Lease;
use crate::storage::leased_transaction::LeasedTransaction;
use crate::storage::sql::{bigint, count, pg_lsn, position as at};
use crate::storage::{QueueError, doing};

/// Images that one query reads, at least and at most.
const IMAGES_MIN: usize = 16;
const IMAGES_MAX: usize = 500;

/// For errors.
const READING: &str = "read a claimed job";

const COUNT_PENDING: &str = "select count(*) filter (where table_name = any ($1)) as known,
        count(*) filter (where table_name <> all ($1)) as unknown
    from public.elasticsearch_sync_queue where status = 'pending'";

/// A job claimed from the table, without its images.
#[derive(Clone, Debug)]
pub struct ClaimedJob {
    pub id: i64,
    /// The commit's time in microseconds since 1970-01-01 UTC; with `id` it finds the row.
    pub created_at: i64,
    /// The transaction with its epoch; none where the job was not recorded from the stream.
    pub xid: Option<u64>,
    /// Failed attempts so far.
    pub retry_count: u32,
    /// Names the row where the images cannot.
    pub record_id: Uuid,
    /// Not one of the stream where the job is external.
    pub position: Position,
    /// It has no position of its own on the stream.
    pub external: bool,
    table: TableId,
    operation: Option<Operation>,
    note: Option<Arc<str>>,
}

/// A claimed job with its images.
#[derive(Clone, Debug)]
pub struct Job {
    pub claimed: ClaimedJob,
    /// As it was recorded. Its rows may be altered or missing where `incomplete` is set: then the
    /// row must be read.
    pub change: Change,
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
    pub(super) client: Client,
    pub(super) guard: LeasedTransaction,
    keys: Arc<TableKeys>,
    names: Arc<Vec<String>>,
    claim: Statement,
    due: Statement,
    without_position: Statement,
    images: Statement,
    /// Images that are asked for at once.
    images_at_once: usize,
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
            claim: prepare(&client, include_str!("claim_after.sql")).await?,
            due: prepare(&client, include_str!("claim_passed.sql")).await?,
            images: prepare(&client, include_str!("claim_images.sql")).await?,
            images_at_once: IMAGES_MIN,
            without_position: prepare(&client, include_str!("claim_without_position.sql")).await?,
            keys,
            client,
        })
    }

    /// Makes `pending` again what other epochs left `processing`, and moves the notes of jobs that
    /// an instance from before the column `note` recorded. Returns how many are pending again.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn reset_orphans(&mut self) -> Result<u64, QueueError> {
        let epoch = self.guard.lease().epoch;
        let body = async {
            let moved = self.client.execute(include_str!("claim_move_notes.sql"), &[]).await;
            moved.map_err(doing("move the notes of jobs"))?;
            reset_orphans(&self.client, epoch).await
        };
        self.guard.run(&self.client, body).await
    }

    /// The position of the first job that is not finished, due or not.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn lowest_unfinished(&self) -> Result<Option<Position>, QueueError> {
        const LOWEST: &str = include_str!("claim_lowest_unfinished.sql");
        let failed = doing("look for unfinished jobs");
        let slot = &self.guard.lease().slot;
        let row = self.client.query_opt(LOWEST, &[&*self.names, slot]).await.map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let lsn: PgLsn = row.try_get("commit_lsn").map_err(&failed)?;
        Ok(Some(at(lsn, row.try_get("ordinal").map_err(&failed)?)))
    }

    /// How many jobs are `pending`.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn count_pending(&self) -> Result<Waiting, QueueError> {
        let failed = doing("count pending jobs");
        let row = self.client.query_one(COUNT_PENDING, &[&*self.names]).await.map_err(&failed)?;
        Ok(Waiting {
            known: count(row.try_get("known").map_err(&failed)?),
            unknown: count(row.try_get("unknown").map_err(&failed)?),
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
    ) -> Result<Vec<ClaimedJob>, QueueError> {
        let after_lsn = pg_lsn(after.commit_lsn);
        let after_ordinal = bigint(after.ordinal);
        let last_lsn = up_to.map_or(PgLsn::from(u64::MAX), |last| pg_lsn(last.commit_lsn));
        let last_ordinal = up_to.map_or(i64::MAX, |last| bigint(last.ordinal));
        let between: [&(dyn ToSql + Sync); 4] =
            [&after_lsn, &after_ordinal, &last_lsn, &last_ordinal];
        let mut jobs = self.take(&self.claim.clone(), &between, limit).await?;
        jobs.sort_unstable_by_key(|job| job.position);
        Ok(jobs)
    }

    /// Makes jobs `processing` that are due and that a cursor has passed (`behind`). Fewer than
    /// `limit` means that there are no more. Jobs of tables that are not configured become `failed`.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn due(
        &mut self,
        behind: Position,
        limit: u32,
    ) -> Result<Vec<ClaimedJob>, QueueError> {
        const ANY_DUE: &str = include_str!("claim_any_due.sql");
        let failed = doing("look for jobs that are due");
        let row = self.client.query_one(ANY_DUE, &[&*self.names]).await.map_err(&failed)?;
        if row.try_get("has_unknown").map_err(&failed)? {
            self.fail_unknown().await?;
        }
        if !row.try_get("is_due").map_err(&failed)? {
            return Ok(Vec::new());
        }
        let lsn = pg_lsn(behind.commit_lsn);
        let ordinal = bigint(behind.ordinal);
        let mut jobs = self.take(&self.due.clone(), &[&lsn, &ordinal], limit).await?;
        jobs.sort_unstable_by_key(|job| job.position);
        Ok(jobs)
    }

    async fn fail_unknown(&self) -> Result<(), QueueError> {
        const FAIL_UNKNOWN: &str = include_str!("claim_fail_unknown.sql");
        let body = async {
            let failed = self.client.execute(FAIL_UNKNOWN, &[&*self.names]).await;
            failed.map_err(doing("refuse jobs of unknown tables"))
        };
        let failed = self.guard.run(&self.client, body).await?;
        tracing::warn!(
            event = "jobs_of_unknown_tables",
            jobs = failed,
            "jobs of tables that are not in the definition failed"
        );
        Ok(())
    }

    /// Whether jobs are due that are not on the stream.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn any_without_position(&self) -> Result<bool, QueueError> {
        const ANY: &str = include_str!("claim_any_without_position.sql");
        let slot = &self.guard.lease().slot;
        let row = self.client.query_one(ANY, &[&*self.names, slot]).await;
        row.and_then(|row| row.try_get("is_due")).map_err(doing("look for jobs without a position"))
    }

    /// Makes jobs `processing` that are due and not on the stream. Fewer than `limit` means that
    /// there are no more.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn without_position(&mut self, limit: u32) -> Result<Vec<ClaimedJob>, QueueError> {
        let mut jobs = self.take(&self.without_position.clone(), &[], limit).await?;
        jobs.iter_mut().for_each(|job| job.external = true);
        jobs.sort_unstable_by_key(|job| job.id);
        Ok(jobs)
    }

    /// Claims by a statement, under the lease. `more` is what it takes from `$5` on.
    async fn take(
        &mut self,
        statement: &Statement,
        more: &[&(dyn ToSql + Sync)],
        limit: u32,
    ) -> Result<Vec<ClaimedJob>, QueueError> {
        let lease = self.guard.lease();
        let limit = i64::from(limit);
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&*self.names, &lease.slot, &limit, &lease.epoch];
        parameters.extend(more);
        let body =
            async { self.client.query(statement, &parameters).await.map_err(doing("claim jobs")) };
        let (rows, _) = self.guard.begin_counted(&self.client, body).await?;
        let created: Result<Vec<Micros>, _> =
            rows.iter().map(|row| row.try_get("created_at")).collect();
        let created = created.map_err(doing(READING))?;
        let mut delta = Delta::default();
        delta.went(created.iter().map(|at| at.0), Status::Pending, Status::Processing);
        self.counter.commit(&self.client, &delta).await?;
        rows.iter().map(|row| self.claimed(row)).collect::<Result<_, _>>().map_err(doing(READING))
    }

    fn claimed(&self, row: &Row) -> Result<ClaimedJob, tokio_postgres::Error> {
        let created_at: Micros = row.try_get("created_at")?;
        let table = self.keys.id_of(row.try_get("table_name")?);
        let lsn: Option<PgLsn> = row.try_get("commit_lsn")?;
        let position = lsn.zip(row.try_get("ordinal")?).map(|(lsn, ordinal)| at(lsn, ordinal));
        let attempts: Option<i32> = row.try_get("retry_count")?;
        Ok(ClaimedJob {
            id: row.try_get("id")?,
            created_at: created_at.0,
            xid: row.try_get::<_, Option<i64>>("xid")?.map(count),
            retry_count: attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
            record_id: row.try_get("record_id")?,
            position: position.unwrap_or_default(),
            external: false,
            table: table.expect("only jobs of the tables in this list are claimed"),
            operation: operation(row.try_get("operation")?),
            note: row.try_get::<_, Option<&str>>("note")?.map(Arc::from),
        })
    }

    /// Takes the first of these jobs, with their images, as long as those stay within `bytes_max`;
    /// one at least. A job that was deleted meanwhile is left out.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn with_images(
        &mut self,
        claimed: &mut VecDeque<ClaimedJob>,
        bytes_max: usize,
    ) -> Result<Vec<Job>, QueueError> {
        let first = claimed.iter().take(self.images_at_once);
        let ids: Vec<i64> = first.clone().map(|job| job.id).collect();
        let times: Vec<Micros> = first.map(|job| Micros(job.created_at)).collect();
        let limit = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let rows = self.client.query(&self.images, &[&ids, &times, &limit]).await;
        let rows = rows.map_err(doing(READING))?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: i64 = row.try_get("id").map_err(doing(READING))?;
            let images: &str = row.try_get("change_data").map_err(doing(READING))?;
            let found = std::iter::from_fn(|| claimed.pop_front()).find(|job| job.id == id);
            jobs.extend(found.map(|job| self.job(job, images)));
        }
        if rows.is_empty() {
            claimed.drain(..ids.len());
        }
        // Fewer are asked for once not all fit, so that the server does not read many images again and
        // again; the short end of a claim says nothing.
        let next = (rows.len() * 2).clamp(IMAGES_MIN, IMAGES_MAX);
        let all_fit = rows.len() == ids.len();
        self.images_at_once = if all_fit { self.images_at_once.max(next) } else { next };
        Ok(jobs)
    }

    fn job(&mut self, claimed: ClaimedJob, images: &str) -> Job {
        let columns = &mut self.columns[usize::from(claimed.table.0)];
        let rows = Rows::parse(claimed.operation, images, columns);
        let complete = rows.is_some();
        let Rows { old, new } = rows.unwrap_or_default();
        let change = Change {
            position: claimed.position,
            // All 64 bits are in the job.
            xid: 0,
            committed_at: claimed.created_at,
            table: claimed.table,
            operation: claimed.operation.unwrap_or(Operation::Update),
            old,
            new,
            incomplete: !complete || claimed.note.is_some(),
            note: claimed.note.clone(),
        };
        Job { claimed, change }
    }
}

/// Jobs of earlier runs become `pending`. A row that another transaction has locked is left to a
/// later pass (`rescue`), so that no forgotten lock keeps a run from beginning.
pub(super) async fn reset_orphans(client: &Client, epoch: i64) -> Result<u64, QueueError> {
    let reset = client.execute(include_str!("orphans_reset.sql"), &[&epoch]).await;
    reset.map_err(doing("reset jobs of a dead run"))
}

async fn prepare(client: &Client, sql: &str) -> Result<Statement, QueueError> {
    client.prepare(sql).await.map_err(doing("prepare the claim"))
}

fn operation(word: &str) -> Option<Operation> {
    [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate]
        .into_iter()
        .find(|operation| operation.as_str() == word)
}
