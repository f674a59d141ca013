//! Job → `pending` again without an attempt: its index takes no documents.
//!
//! No claim meets a parked job (`walferry.due_job`) until its wait for the index is ended
//! (`Claimer::release`).
//!
//! Not here: which jobs these are (`engine::sink::dispatch`), and when their index takes documents
//! again.

use futures_util::future::join;
use postgres_types::PgLsn;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::ack::batch::{BatchDescriptor, JobKey, ParkedJob, Unfinished};
use crate::change::Micros;
use crate::storage::sql::{StorableText, bigint, pg_lsn};
use crate::storage::{QueueError, doing};

/// For errors.
const PREPARING: &str = "prepare the parking of jobs";
const PARKING: &str = "park jobs";

/// The statements.
#[derive(Debug)]
pub(super) struct Parker {
    ids: Statement,
    positions: Statement,
}

/// All parked jobs of a settlement as the arrays that the statements take, but for those that end
/// with a fan-out.
pub(super) struct ParkedJobs<'a> {
    ids: Vec<i64>,
    lsns: Vec<PgLsn>,
    ordinals: Vec<i64>,
    of_ids: AwaitedColumns<'a>,
    of_positions: AwaitedColumns<'a>,
    min: Micros,
    max: Micros,
}

/// By job: the index that it waits for, and why.
#[derive(Default)]
struct AwaitedColumns<'a> {
    indices: Vec<&'a str>,
    reasons: Vec<String>,
}

impl<'a> ParkedJobs<'a> {
    pub(super) fn of(
        pending_batches: &'a [(BatchDescriptor, Unfinished)],
        text: StorableText,
    ) -> Self {
        let mut all = Self {
            ids: Vec::new(),
            lsns: Vec::new(),
            ordinals: Vec::new(),
            of_ids: AwaitedColumns::default(),
            of_positions: AwaitedColumns::default(),
            min: Micros(i64::MAX),
            max: Micros(i64::MIN),
        };
        for (descriptor, Unfinished { parked, .. }) in pending_batches {
            if parked.is_empty() || descriptor.fanouts.chunk.is_some() {
                continue;
            }
            let unfinished = descriptor.fanouts.unfinished_jobs();
            all.min = all.min.min(Micros(descriptor.created.min));
            all.max = all.max.max(Micros(descriptor.created.max));
            for ParkedJob { job, wait } in parked.iter().filter(|p| !unfinished.contains(&p.job)) {
                let waits = match *job {
                    JobKey::At(position) => {
                        all.lsns.push(pg_lsn(position.commit_lsn));
                        all.ordinals.push(bigint(position.ordinal));
                        &mut all.of_positions
                    }
                    JobKey::Id(id) => {
                        all.ids.push(id);
                        &mut all.of_ids
                    }
                    // It is in its chunk (`LoadedChunk::leave`).
                    JobKey::Loaded(_) => continue,
                };
                waits.indices.push(&wait.index);
                waits.reasons.push(text.sentence(&wait.reason));
            }
        }
        all
    }
}

impl Parker {
    pub(super) async fn prepare(client: &Client) -> Result<Self, QueueError> {
        let ids = client.prepare(counted!("park_ids.sql")).await;
        let ids = ids.map_err(doing(PREPARING))?;
        let positions = client.prepare(counted!("park_positions.sql")).await;
        Ok(Self { ids, positions: positions.map_err(doing(PREPARING))? })
    }

    /// Makes these jobs `pending`; what it moved, by day and status.
    pub(super) async fn park(
        &self,
        client: &Client,
        parked: &ParkedJobs<'_>,
    ) -> Result<Vec<Row>, QueueError> {
        let ParkedJobs { ids, lsns, ordinals, of_ids, of_positions, min, max } = parked;
        let by_id = async {
            let parameters: [&(dyn ToSql + Sync); 5] =
                [ids, &of_ids.indices, &of_ids.reasons, min, max];
            if ids.is_empty() { Ok(Vec::new()) } else { client.query(&self.ids, &parameters).await }
        };
        let by_position = async {
            let AwaitedColumns { indices, reasons } = of_positions;
            let parameters: [&(dyn ToSql + Sync); 6] = [lsns, ordinals, indices, reasons, min, max];
            if lsns.is_empty() {
                return Ok(Vec::new());
            }
            client.query(&self.positions, &parameters).await
        };
        let (by_id, by_position) = join(by_id, by_position).await;
        let mut moved = by_id.map_err(doing(PARKING))?;
        moved.extend(by_position.map_err(doing(PARKING))?);
        Ok(moved)
    }
}
