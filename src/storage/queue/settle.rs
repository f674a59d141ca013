//! Job → its fate: `completed`, `pending` again or `failed`, with the settled position, in one
//! transaction.
//!
//! Every move is guarded: only rows that are still `processing` move. The statements that move jobs
//! also count what they moved, by day and status.
//!
//! Not here: the order of batches; what is given is settled.

use std::collections::BTreeSet;

use futures_util::future::{join, join_all, join5};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::chunks::ChunkStatements;
use super::failures::Failures;
use super::fanout::FanoutStatements;
use super::job_counts::{Counter, Delta};
use super::park::{ParkedJobs, Parker};
use super::retry::RetryPolicy;
use super::status::Status;
use crate::ack::batch::{BatchDescriptor, CreatedBetween, JobKey, LoadedChunk, Unfinished};
use crate::ack::job_set::JobSet;
use crate::change::{Lsn, Micros, Position};
use crate::storage::lease::Lease;
use crate::storage::leased_transaction::LeasedTransaction;
use crate::storage::sql::{StorableText, bigint, pg_lsn};
use crate::storage::{QueueError, doing, position};

/// Sessions that move jobs: plans are made for the actual bounds, and no part is read whole. A
/// hash join would read every pending job for each claim.
pub(in crate::storage) const SESSION: &str = "set plan_cache_mode = force_custom_plan;
    set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off";

const SETTLED: &str = include_str!("settle_position.sql");

/// For errors.
const PREPARING: &str = "prepare the settlement";

/// What one settlement moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettleCounts {
    pub completed: u64,
    /// Out of attempts.
    pub failed: u64,
    /// To be tried again after a wait, those included that wait for an index.
    pub retried: u64,
}

/// Settles batches on a connection of its own.
#[derive(Debug)]
pub struct Settler {
    client: Client,
    guard: LeasedTransaction,
    counter: Counter,
    policy: RetryPolicy,
    text: StorableText,
    complete_commit: Statement,
    complete_commits: Statement,
    complete_commits_except: Statement,
    complete_ids: Statement,
    fail_positions: Statement,
    fail_ids: Statement,
    parker: Parker,
    chunks: ChunkStatements,
    settled: Statement,
    /// Where the row of the settled position was written last.
    place: Option<String>,
    fanouts: FanoutStatements,
}

impl Settler {
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn new(
        client: Client,
        lease: &Lease,
        policy: RetryPolicy,
    ) -> Result<Self, QueueError> {
        client.batch_execute(SESSION).await.map_err(doing(PREPARING))?;
        let text = StorableText::of(&client).await.map_err(doing(PREPARING))?;
        Ok(Self {
            guard: LeasedTransaction::prepare(&client, lease).await?,
            counter: Counter::prepare(&client, lease, "settle").await?,
            policy,
            text,
            complete_commit: prepare(&client, counted!("complete_commit.sql")).await?,
            complete_commits: prepare(&client, counted!("complete_commits.sql")).await?,
            complete_commits_except: prepare(&client, counted!("complete_commits_except.sql"))
                .await?,
            complete_ids: prepare(&client, counted!("complete_ids.sql")).await?,
            fail_positions: prepare(&client, counted!("fail_positions.sql")).await?,
            fail_ids: prepare(&client, counted!("fail_ids.sql")).await?,
            parker: Parker::prepare(&client).await?,
            chunks: ChunkStatements::prepare(&client, text).await?,
            settled: prepare(&client, SETTLED).await?,
            place: None,
            fanouts: FanoutStatements::prepare(&client, text).await?,
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

    /// Gives every job of these batches its fate, begins, moves on and ends fan-outs, moves the first
    /// load's and operations' progress on by the `loaded` chunks (in order, nothing before them open),
    /// writes a job for each row of them that was refused or waits for an index, and raises the settled position to
    /// `settled_lsn` (it never goes back).
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`]; then nothing is settled.
    pub async fn settle(
        &mut self,
        pending_batches: &[(BatchDescriptor, Unfinished)],
        settled_lsn: Option<Lsn>,
        loaded: &[LoadedChunk],
    ) -> Result<SettleCounts, QueueError> {
        let failures = Failures::of(pending_batches, self.text);
        let parked = ParkedJobs::of(pending_batches, self.text);
        // Polled in this order at first, so the failures and what is parked are on the wire before
        // the completions that would otherwise take their rows.
        let body = async {
            let finish = async {
                let (completed, progressed) = join(
                    join_all(pending_batches.iter().map(|(d, _)| self.complete(d))),
                    self.chunks.settle(&self.client, &self.guard.lease().slot, loaded),
                )
                .await;
                Ok::<_, QueueError>((completed, progressed?))
            };
            let (failed, parked, finished, settled, ended) = join5(
                self.fail(&failures),
                self.parker.park(&self.client, &parked),
                finish,
                self.raise(settled_lsn),
                self.move_fanouts(pending_batches),
            )
            .await;
            let (completed, begun) = finished?;
            let place = settled?;
            let mut moved = failed?;
            moved.extend(parked?);
            moved.extend(ended?);
            for rows in completed {
                moved.extend(rows?);
            }
            Ok((moved, begun, place))
        };
        let ((moved, begun, place), _) =
            Box::pin(self.guard.begin_counted(&self.client, body)).await?;
        let mut delta = Delta::default();
        let counted = doing("settle jobs");
        let mut moved = delta.arrived(&moved, Some(Status::Processing)).map_err(&counted)?;
        moved.extend(delta.arrived(&begun, None).map_err(&counted)?);
        self.counter.commit(&self.client, &delta).await?;
        self.place = place.or(self.place.take());
        let of = |status| moved.iter().filter(|(to, _)| *to == status).map(|(_, jobs)| jobs).sum();
        Ok(SettleCounts {
            completed: of(Status::Completed),
            failed: of(Status::Failed),
            retried: of(Status::Pending),
        })
    }

    async fn fail(&self, failures: &Failures) -> Result<Vec<Row>, QueueError> {
        let min = &failures.min;
        let max = &failures.max;
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
        let min = Micros(descriptor.created.min);
        let max = Micros(descriptor.created.max);
        let unfinished = descriptor.fanouts.unfinished_jobs();
        match &descriptor.jobs {
            JobSet::Range { first, last } if unfinished.is_empty() => {
                self.complete_range(*first, *last, min, max).await
            }
            JobSet::Range { first, last } => {
                self.complete_range_except(*first, *last, descriptor.created, &unfinished).await
            }
            JobSet::Ids(ids) => {
                let is_finished = |id: &&i64| !unfinished.contains(&JobKey::Id(**id));
                let ids: Vec<i64> = ids.iter().filter(is_finished).copied().collect();
                self.moved(&self.complete_ids, &[&ids, &min, &max]).await
            }
            JobSet::None => Ok(Vec::new()),
        }
    }

    /// Completes a range without the jobs whose fan-outs go on.
    async fn complete_range_except(
        &self,
        first: Position,
        last: Position,
        created: CreatedBetween,
        unfinished: &BTreeSet<JobKey>,
    ) -> Result<Vec<Row>, QueueError> {
        let mut lsns = Vec::new();
        let mut ordinals = Vec::new();
        for job in unfinished {
            let JobKey::At(position) = job else { continue };
            lsns.push(pg_lsn(position.commit_lsn));
            ordinals.push(bigint(position.ordinal));
        }
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &pg_lsn(first.commit_lsn),
            &bigint(first.ordinal),
            &pg_lsn(last.commit_lsn),
            &bigint(last.ordinal),
            &Micros(created.min),
            &Micros(created.max),
            &lsns,
            &ordinals,
        ];
        self.moved(&self.complete_commits_except, &parameters).await
    }

    /// Begins fan-outs, moves them on and ends them. Returns the counts of the jobs that ended.
    async fn move_fanouts(
        &self,
        pending_batches: &[(BatchDescriptor, Unfinished)],
    ) -> Result<Vec<Row>, QueueError> {
        let mut ended = Vec::new();
        for (descriptor, unfinished) in pending_batches {
            let created = descriptor.created;
            for begun in &descriptor.fanouts.begun {
                let slot = &self.guard.lease().slot;
                self.fanouts.begin(&self.client, slot, begun, created, unfinished).await?;
            }
            if let Some(chunk) = &descriptor.fanouts.chunk {
                self.fanouts.advance(&self.client, chunk, unfinished).await?;
                if chunk.last_key.is_none() {
                    ended.extend(self.fanouts.end(&self.client, chunk, self.policy).await?);
                }
            }
        }
        Ok(ended)
    }

    /// A range within one commit has a statement of its own: most ranges are, under a large
    /// transaction and while changes come one by one, and it is planned in less time.
    async fn complete_range(
        &self,
        first: Position,
        last: Position,
        min: Micros,
        max: Micros,
    ) -> Result<Vec<Row>, QueueError> {
        let first_lsn = pg_lsn(first.commit_lsn);
        let first_ordinal = bigint(first.ordinal);
        let last_lsn = pg_lsn(last.commit_lsn);
        let last_ordinal = bigint(last.ordinal);
        if first.commit_lsn == last.commit_lsn {
            let parameters: [&(dyn ToSql + Sync); 5] =
                [&first_lsn, &first_ordinal, &last_ordinal, &min, &max];
            return self.moved(&self.complete_commit, &parameters).await;
        }
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&first_lsn, &first_ordinal, &last_lsn, &last_ordinal, &min, &max];
        self.moved(&self.complete_commits, &parameters).await
    }

    /// Returns where the row of the settled position is written.
    async fn raise(&self, settled_lsn: Option<Lsn>) -> Result<Option<String>, QueueError> {
        let Some(lsn) = settled_lsn else { return Ok(None) };
        let lsn = pg_lsn(lsn);
        let slot = &self.guard.lease().slot;
        let parameters: [&(dyn ToSql + Sync); 3] = [slot, &lsn, &self.place];
        let row = self.client.query_opt(&self.settled, &parameters).await;
        let row = row.map_err(doing("store the settled position"))?;
        // `position::store` wrote the row with the slot's first position.
        let row = row.ok_or_else(|| QueueError::NoPosition { slot: slot.clone() })?;
        row.try_get("place").map(Some).map_err(doing("store the settled position"))
    }

    async fn moved(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, QueueError> {
        self.client.query(statement, parameters).await.map_err(doing("settle jobs"))
    }
}

async fn prepare(client: &Client, sql: &str) -> Result<Statement, QueueError> {
    client.prepare(sql).await.map_err(doing(PREPARING))
}
