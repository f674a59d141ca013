//! Fan-outs in the background as they are stored: begun, moved on, ended, and read again.
//!
//! A fan-out begins, moves on and ends within settlements only (`settle`), so that its progress and
//! the fate of its jobs are committed together.
//!
//! Not here: which rows a fan-out rewrites (`engine::feed::render::fanout`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use postgres_types::PgLsn;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::retry::RetryPolicy;
use crate::ack::batch::{CreatedBetween, Failure, JobKey, ParkedJob, Unfinished};
use crate::ack::fanout::{BegunFanout, FanoutChunk, FanoutGroup, FanoutRows, StoredFanout};
use crate::change::Micros;
use crate::storage::sql::{StorableText, bigint, count, pg_lsn, position};
use crate::storage::{QueueError, doing};

/// For errors.
const STORING: &str = "store the progress of a fan-out";
const READING: &str = "read the fan-outs";

/// The statements of a settlement that concern fan-outs.
#[derive(Debug)]
pub(super) struct FanoutStatements {
    begin: Statement,
    advance: Statement,
    end: Statement,
    text: StorableText,
}

impl FanoutStatements {
    pub(super) async fn prepare(client: &Client, text: StorableText) -> Result<Self, QueueError> {
        Ok(Self {
            begin: prepare(client, include_str!("fanout_begin.sql")).await?,
            advance: prepare(client, include_str!("fanout_advance.sql")).await?,
            end: prepare(client, counted!("fanout_end.sql")).await?,
            text,
        })
    }

    /// Stores a fan-out with its jobs. `unfinished` are those of its batch.
    pub(super) async fn begin(
        &self,
        client: &Client,
        slot: &str,
        begun: &BegunFanout,
        created: CreatedBetween,
        unfinished: &Unfinished,
    ) -> Result<(), QueueError> {
        let BegunFanout { rows, groups } = begun;
        let values = rows.values.as_ref().map(|values| serde_json::json!(values).to_string());
        let lsns: Vec<PgLsn> = groups.iter().map(|g| pg_lsn(g.highest.commit_lsn)).collect();
        let ordinals: Vec<i64> = groups.iter().map(|g| bigint(g.highest.ordinal)).collect();
        let jobs = JobColumns::of(groups, unfinished, self.text);
        let parameters: [&(dyn ToSql + Sync); 16] = [
            &slot,
            &rows.changed,
            &rows.table,
            &rows.column,
            &rows.path,
            &values,
            &lsns,
            &ordinals,
            &jobs.groups,
            &jobs.ids,
            &jobs.lsns,
            &jobs.ordinals,
            &jobs.errors,
            &jobs.waits_for,
            &Micros(created.min),
            &Micros(created.max),
        ];
        client.execute(&self.begin, &parameters).await.map(drop).map_err(doing(STORING))
    }

    /// Moves fan-outs on by a chunk. `unfinished` are the jobs of its batch.
    pub(super) async fn advance(
        &self,
        client: &Client,
        chunk: &FanoutChunk,
        unfinished: &Unfinished,
    ) -> Result<(), QueueError> {
        let mut ids = Vec::new();
        let mut errors = Vec::new();
        let mut waits_for = Vec::new();
        for (job, why) in reasons(unfinished) {
            if let JobKey::Id(id) = job {
                ids.push(id);
                errors.push(self.text.sentence(why.sentence));
                waits_for.push(why.waits_for);
            }
        }
        let rows = bigint(chunk.row_count);
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&chunk.fanouts, &chunk.last_key, &rows, &ids, &errors, &waits_for];
        client.execute(&self.advance, &parameters).await.map(drop).map_err(doing(STORING))
    }

    /// Ends fan-outs, and their jobs that no other fan-out has. Returns the counts of these.
    pub(super) async fn end(
        &self,
        client: &Client,
        chunk: &FanoutChunk,
        policy: RetryPolicy,
    ) -> Result<Vec<Row>, QueueError> {
        let attempts = policy.attempts();
        let delay_min = policy.delay_min.as_secs_f64();
        let delay_max = policy.delay_max.as_secs_f64();
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&chunk.fanouts, &attempts, &delay_min, &delay_max];
        client.query(&self.end, &parameters).await.map_err(doing(STORING))
    }
}

async fn prepare(client: &Client, sql: &str) -> Result<Statement, QueueError> {
    client.prepare(sql).await.map_err(doing("prepare the settlement of fan-outs"))
}

/// Why a job is not completed.
#[derive(Clone, Copy)]
struct Reason<'a> {
    sentence: &'a str,
    /// The index that it waits for; `None` where a document was refused.
    waits_for: Option<&'a str>,
}

/// The jobs that are not completed, each once.
fn reasons(unfinished: &Unfinished) -> impl Iterator<Item = (JobKey, Reason<'_>)> {
    let Unfinished { failures, parked } = unfinished;
    let refused = failures
        .iter()
        .map(|Failure { job, error }| (*job, Reason { sentence: error, waits_for: None }));
    refused.chain(parked.iter().map(|ParkedJob { job, wait }| {
        (*job, Reason { sentence: &wait.reason, waits_for: Some(&wait.index) })
    }))
}

/// The jobs of a fan-out as the arrays that the statement takes.
#[derive(Default)]
struct JobColumns<'a> {
    groups: Vec<i32>,
    ids: Vec<Option<i64>>,
    lsns: Vec<Option<PgLsn>>,
    ordinals: Vec<Option<i64>>,
    errors: Vec<Option<String>>,
    waits_for: Vec<Option<&'a str>>,
}

impl<'a> JobColumns<'a> {
    fn of(groups: &[FanoutGroup], unfinished: &'a Unfinished, text: StorableText) -> Self {
        let reasons: HashMap<JobKey, Reason<'_>> = reasons(unfinished).collect();
        let mut columns = Self::default();
        for (number, group) in (0..).zip(groups) {
            for job in &*group.jobs {
                columns.groups.push(number);
                let id = match job {
                    JobKey::Id(id) => Some(*id),
                    JobKey::At(_) | JobKey::Loaded(_) => None,
                };
                let at = match job {
                    JobKey::At(position) => Some(*position),
                    JobKey::Id(_) | JobKey::Loaded(_) => None,
                };
                columns.ids.push(id);
                columns.lsns.push(at.map(|at| pg_lsn(at.commit_lsn)));
                columns.ordinals.push(at.map(|at| bigint(at.ordinal)));
                let why = reasons.get(job);
                columns.errors.push(why.map(|why| text.sentence(why.sentence)));
                columns.waits_for.push(why.and_then(|why| why.waits_for));
            }
        }
        columns
    }
}

/// The fan-outs of `slot` with an id above `after`, in the order in which they began.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn load(
    client: &Client,
    slot: &str,
    after: i64,
) -> Result<Vec<StoredFanout>, QueueError> {
    const LOAD: &str = include_str!("fanout_load.sql");
    const LOAD_JOBS: &str = include_str!("fanout_load_jobs.sql");
    let rows = client.query(LOAD, &[&slot, &after]).await.map_err(doing(READING))?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let jobs = client.query(LOAD_JOBS, &[&slot, &after]).await.map_err(doing(READING))?;
    let mut by_group: HashMap<(i64, i32), Vec<JobKey>> = HashMap::new();
    for row in &jobs {
        let fanout = row.try_get("fanout").map_err(doing(READING))?;
        let group = row.try_get("group_number").map_err(doing(READING))?;
        let job = row.try_get("job_id").map_err(doing(READING))?;
        by_group.entry((fanout, group)).or_default().push(JobKey::Id(job));
    }
    let stored = rows.iter().map(|row| stored(row, &mut by_group));
    stored.collect::<Result<_, _>>().map_err(doing(READING))
}

fn stored(
    row: &Row,
    by_group: &mut HashMap<(i64, i32), Vec<JobKey>>,
) -> Result<StoredFanout, tokio_postgres::Error> {
    let id: i64 = row.try_get("id")?;
    let lsns: Vec<PgLsn> = row.try_get("commit_lsns")?;
    let ordinals: Vec<i64> = row.try_get("ordinals")?;
    let values: Option<&str> = row.try_get("group_numbers")?;
    let groups = (0..).zip(lsns.into_iter().zip(ordinals)).map(|(number, (lsn, ordinal))| {
        let jobs = by_group.remove(&(id, number)).unwrap_or_default();
        FanoutGroup { highest: position(lsn, ordinal), jobs: Arc::from(jobs) }
    });
    let groups = groups.collect();
    Ok(StoredFanout {
        id,
        begun: BegunFanout {
            rows: FanoutRows {
                changed: row.try_get("changed_table")?,
                table: row.try_get("table_name")?,
                column: row.try_get("column_name")?,
                path: row.try_get("is_path")?,
                // Only what serde_json wrote is stored there.
                values: values.map(|values| {
                    serde_json::from_str::<BTreeMap<String, Vec<u32>>>(values).unwrap_or_default()
                }),
            },
            groups,
        },
        last_key: row.try_get("last_key")?,
        row_count: count(row.try_get("row_count")?),
    })
}
