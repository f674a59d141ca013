//! Job → its fate: `completed`, `pending` again or `failed`, with the settled position, in one
//! transaction.
//!
//! Every move is guarded: only rows that are still `processing` move. Rows are found by position
//! and commit time, so that the unique index serves and other days are pruned. `status || ''` keeps
//! the index on status out: it holds a dead entry for every job that passed, and all of a large
//! transaction's jobs under one commit time.
//!
//! Not here: the order of batches; what is given is settled.

use futures_util::future::{join, join_all, join4};
use postgres_types::PgLsn;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::job_counts::{Counter, Delta, MOVED};
use super::retry::{FAILED_ATTEMPT, RetryPolicy};
use super::status::Status;
use crate::ack::batch::{BatchDescriptor, Failure, JobKey, LoadedChunk};
use crate::ack::job_set::JobSet;
use crate::change::Lsn;
use crate::change::Micros;
use crate::storage::lease::Lease;
use crate::storage::leased_transaction::LeasedTransaction;
use crate::storage::sql::{bigint, pg_lsn};
use crate::storage::{QueueError, doing, position};

/// Sessions that move jobs: plans are made for the actual bounds, and no part is read whole. A
/// hash join would read every pending job for each claim.
pub(in crate::storage) const SESSION: &str = "set plan_cache_mode = force_custom_plan;
    set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off";

/// A note made when the row was recorded stays.
const COMPLETE_RANGE: &str = "update public.elasticsearch_sync_queue
    set status = 'completed', processed_at = clock_timestamp(),
        error_message = substring(error_message from '(?n)^note: .*$')
    where status || '' = 'processing'
      and (commit_lsn, ordinal) >= ($1, $2) and (commit_lsn, ordinal) <= ($3, $4)
      and created_at >= $5 and created_at <= $6
    returning status, created_at, processed_at";

const COMPLETE_IDS: &str = "update public.elasticsearch_sync_queue
    set status = 'completed', processed_at = clock_timestamp(),
        error_message = substring(error_message from '(?n)^note: .*$')
    where status || '' = 'processing' and id = any ($1)
      and created_at >= $2 and created_at <= $3
    returning status, created_at, processed_at";

/// `$4` to `$6`: positions and errors; `$7`, `$8`: commit times.
fn fail_positions() -> String {
    format!(
        "update public.elasticsearch_sync_queue q set {FAILED_ATTEMPT}
        from unnest($4::pg_lsn[], $5::bigint[], $6::text[]) as f (commit_lsn, ordinal, error)
        where q.status || '' = 'processing'
          and q.commit_lsn = f.commit_lsn and q.ordinal = f.ordinal
          and q.created_at >= $7 and q.created_at <= $8
        returning q.status, q.created_at, q.processed_at"
    )
}

/// The same by id: `$4`, `$5` ids and errors; `$6`, `$7` commit times.
fn fail_ids() -> String {
    format!(
        "update public.elasticsearch_sync_queue q set {FAILED_ATTEMPT}
        from unnest($4::bigint[], $5::text[]) as f (id, error)
        where q.status || '' = 'processing' and q.id = f.id
          and q.created_at >= $6 and q.created_at <= $7
        returning q.status, q.created_at, q.processed_at"
    )
}

/// Chunks of a table settle in the order of its key, so the last one given is the furthest.
const PROGRESS: &str = "update walferry.load
    set last_key = $3::text, row_count = greatest(row_count, $4),
        done_at = case when $3::text is null then clock_timestamp() end
    where slot = $1 and table_name = $2";

const SETTLED: &str = "insert into walferry.settlement (slot, settled_lsn) values ($1, $2)
    on conflict (slot) do update
        set settled_lsn = greatest(walferry.settlement.settled_lsn, excluded.settled_lsn)";

/// What one settlement moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettleCounts {
    pub completed: u64,
    /// Out of attempts.
    pub failed: u64,
    /// To be tried again after a wait.
    pub retried: u64,
}

/// Settles batches on a connection of its own.
#[derive(Debug)]
pub struct Settler {
    client: Client,
    guard: LeasedTransaction,
    counter: Counter,
    policy: RetryPolicy,
    complete_range: Statement,
    complete_ids: Statement,
    fail_positions: Statement,
    fail_ids: Statement,
    progress: Statement,
    settled: Statement,
}

impl Settler {
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn new(
        client: Client,
        lease: &Lease,
        policy: RetryPolicy,
    ) -> Result<Self, QueueError> {
        let failed = doing("prepare the settlement");
        client.batch_execute(SESSION).await.map_err(&failed)?;
        Ok(Self {
            guard: LeasedTransaction::prepare(&client, lease).await?,
            counter: Counter::prepare(&client, lease, "settle").await?,
            policy,
            complete_range: client.prepare(&counted(COMPLETE_RANGE)).await.map_err(&failed)?,
            complete_ids: client.prepare(&counted(COMPLETE_IDS)).await.map_err(&failed)?,
            fail_positions: client.prepare(&counted(&fail_positions())).await.map_err(&failed)?,
            fail_ids: client.prepare(&counted(&fail_ids())).await.map_err(&failed)?,
            progress: client.prepare(PROGRESS).await.map_err(&failed)?,
            settled: client.prepare(SETTLED).await.map_err(&failed)?,
            client,
        })
    }

    /// Stores that everything up to `lsn` is recorded ([`position::raise_recorded_end`]).
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn raise_recorded_end(&self, lsn: Lsn) -> Result<(), QueueError> {
        position::raise_recorded_end(&self.client, self.guard.lease(), lsn).await
    }

    /// Gives every job of these batches its fate, moves the first load's progress on by the
    /// `loaded` chunks (in order, nothing before them open), and raises the settled position to `settled_lsn` (it never goes back).
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`]; then nothing is settled.
    pub async fn settle(
        &mut self,
        pending_batches: &[(BatchDescriptor, Vec<Failure>)],
        settled_lsn: Option<Lsn>,
        loaded: &[LoadedChunk],
    ) -> Result<SettleCounts, QueueError> {
        let failures = Failures::of(pending_batches);
        // Polled in this order at first, so the failures are on the wire before the completions
        // that would otherwise take their rows.
        let body = async {
            let (failed, completed, progressed, settled) = join4(
                self.fail(&failures),
                join_all(pending_batches.iter().map(|(descriptor, _)| self.complete(descriptor))),
                self.progress(loaded),
                self.raise(settled_lsn),
            )
            .await;
            progressed?;
            settled?;
            let mut moved = failed?;
            for rows in completed {
                moved.extend(rows?);
            }
            Ok(moved)
        };
        let (moved, _) = Box::pin(self.guard.begin_counted(&self.client, body)).await?;
        let mut delta = Delta::default();
        let moved = delta.arrived(&moved, Status::Processing).map_err(doing("settle jobs"))?;
        self.counter.commit(&self.client, &delta).await?;
        let of = |status| moved.iter().filter(|(to, _)| *to == status).map(|(_, jobs)| jobs).sum();
        Ok(SettleCounts {
            completed: of(Status::Completed),
            failed: of(Status::Failed),
            retried: of(Status::Pending),
        })
    }

    async fn fail(&self, failures: &Failures) -> Result<Vec<Row>, QueueError> {
        let (min, max) = (&failures.min, &failures.max);
        let attempts = self.policy.attempts();
        let delay_min = self.policy.delay_min.as_secs_f64();
        let delay_max = self.policy.delay_max.as_secs_f64();
        let ids = async {
            if failures.ids.is_empty() {
                return Ok(Vec::new());
            }
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&attempts, &delay_min, &delay_max, &failures.ids, &failures.id_errors, min, max];
            self.moved(&self.fail_ids, &parameters).await
        };
        let positions = async {
            if failures.lsns.is_empty() {
                return Ok(Vec::new());
            }
            let Failures { lsns, ordinals, errors, .. } = failures;
            let parameters: [&(dyn ToSql + Sync); 8] =
                [&attempts, &delay_min, &delay_max, lsns, ordinals, errors, min, max];
            self.moved(&self.fail_positions, &parameters).await
        };
        let (ids, positions) = join(ids, positions).await;
        let mut moved = ids?;
        moved.extend(positions?);
        Ok(moved)
    }

    async fn complete(&self, descriptor: &BatchDescriptor) -> Result<Vec<Row>, QueueError> {
        let (min, max) = (Micros(descriptor.created.min), Micros(descriptor.created.max));
        match &descriptor.extent {
            JobSet::Range { first, last } => {
                let (first_lsn, first_ordinal) = (pg_lsn(first.commit_lsn), bigint(first.ordinal));
                let (last_lsn, last_ordinal) = (pg_lsn(last.commit_lsn), bigint(last.ordinal));
                let parameters: [&(dyn ToSql + Sync); 6] =
                    [&first_lsn, &first_ordinal, &last_lsn, &last_ordinal, &min, &max];
                self.moved(&self.complete_range, &parameters).await
            }
            JobSet::Ids(ids) => self.moved(&self.complete_ids, &[ids, &min, &max]).await,
            JobSet::None => Ok(Vec::new()),
        }
    }

    async fn progress(&self, loaded: &[LoadedChunk]) -> Result<(), QueueError> {
        for chunk in loaded {
            let rows = bigint(chunk.row_count);
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&self.guard.lease().slot, &chunk.table, &chunk.last_key, &rows];
            self.execute(&self.progress, &parameters).await?;
        }
        Ok(())
    }

    async fn raise(&self, settled_lsn: Option<Lsn>) -> Result<(), QueueError> {
        let Some(lsn) = settled_lsn else { return Ok(()) };
        self.execute(&self.settled, &[&self.guard.lease().slot, &pg_lsn(lsn)]).await
    }

    async fn execute(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), QueueError> {
        let done = self.client.execute(statement, parameters).await;
        done.map(drop).map_err(doing("settle jobs"))
    }

    async fn moved(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, QueueError> {
        self.client.query(statement, parameters).await.map_err(doing("settle jobs"))
    }
}

/// The update with what it moved counted, a row for each day and status.
fn counted(update: &str) -> String {
    format!("with moved as ({update}) {MOVED}")
}

/// All failures of a settlement as the arrays that the statements take.
struct Failures {
    lsns: Vec<PgLsn>,
    ordinals: Vec<i64>,
    errors: Vec<String>,
    ids: Vec<i64>,
    id_errors: Vec<String>,
    min: Micros,
    max: Micros,
}

impl Failures {
    fn of(pending_batches: &[(BatchDescriptor, Vec<Failure>)]) -> Self {
        let mut all = Self {
            lsns: Vec::new(),
            ordinals: Vec::new(),
            errors: Vec::new(),
            ids: Vec::new(),
            id_errors: Vec::new(),
            min: Micros(i64::MAX),
            max: Micros(i64::MIN),
        };
        for (descriptor, failures) in
            pending_batches.iter().filter(|(_, failures)| !failures.is_empty())
        {
            all.min = all.min.min(Micros(descriptor.created.min));
            all.max = all.max.max(Micros(descriptor.created.max));
            for failure in failures {
                // A `text` takes no NUL, and the sentence quotes what Elasticsearch answered.
                let error = failure.error.replace('\0', "");
                match failure.job {
                    JobKey::At(position) => {
                        all.lsns.push(pg_lsn(position.commit_lsn));
                        all.ordinals.push(bigint(position.ordinal));
                        all.errors.push(error);
                    }
                    JobKey::Id(id) => {
                        all.ids.push(id);
                        all.id_errors.push(error);
                    }
                }
            }
        }
        all
    }
}
