//! How the queue and its slot are now: what statistics, health, metrics and `walferry status` tell.
//!
//! Costs a few milliseconds whatever the number of jobs: counts are kept, not counted, and the rest
//! is found by indexes.
//!
//! Not here: what is good and what is bad about it (`health`).

use tokio_postgres::error::SqlState;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Row};

use crate::admin::jobs::filter::STUCK;
use crate::change::Lsn;
use crate::storage::sql::{count, lsn};
use crate::storage::{QueueError, doing};
use crate::telemetry::metrics::queue::Figures;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub counts: Counts,
    pub oldest: Oldest,
    /// When the oldest job was committed that is unfinished and not waiting for its next attempt.
    pub oldest_unfinished: Option<Moment>,
    /// False while an operator's `stop` holds.
    pub indexing: bool,
    /// When that was chosen, if ever; ISO 8601.
    pub chosen_at: Option<String>,
    /// Below this everything is settled; moves with progress.
    pub settled: Lsn,
    /// The newest job's number.
    pub newest_id: i64,
    /// Jobs that ended within the last two seconds, at most [`ENDED_MAX`] of them.
    pub ended_ids: Vec<i64>,
    pub slot: SlotState,
}

/// As many as are worth naming.
pub const ENDED_MAX: usize = 100;

/// What `get_elasticsearch_queue_stats()` says, and the stuck.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    pub total: i64,
    pub pending: i64,
    pub processing: i64,
    pub completed: i64,
    pub failed: i64,
    /// `processing` for longer than 30 s. Only the oldest 10,000 are looked at: that many are bad
    /// enough, and the answer must not wait.
    pub stuck: i64,
    /// Milliseconds from a change's commit to its job's end.
    pub processing_time_ms: f64,
    /// ISO 8601, UTC.
    pub last_processed_at: Option<String>,
}

/// Age in seconds of the oldest job of each; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Oldest {
    pub pending: f64,
    pub processing: f64,
    pub failed: f64,
}

/// A moment and how long ago it was, by the database's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// ISO 8601, UTC.
    pub at: String,
    pub age_seconds: f64,
}

/// What is known of the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    Known(Slot),
    /// There is no such slot.
    Missing,
    /// walferry's role may not look.
    Refused,
}

impl Sample {
    /// What the metrics tell of it.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let counts = &self.counts;
        Figures {
            pending: count(counts.pending),
            processing: count(counts.processing),
            completed: count(counts.completed),
            failed: count(counts.failed),
            stuck: count(counts.stuck),
            mean_processing_seconds: counts.processing_time_ms / 1000.0,
            oldest_pending: self.oldest.pending,
            oldest_processing: self.oldest.processing,
            oldest_failed: self.oldest.failed,
        }
    }
}

impl SlotState {
    /// Its figures, if they are known.
    #[must_use]
    pub fn known(&self) -> Option<&Slot> {
        match self {
            Self::Known(slot) => Some(slot),
            Self::Missing | Self::Refused => None,
        }
    }
}

/// The replication slot, as `pg_replication_slots` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL that the slot keeps from removal.
    pub retained_bytes: i64,
    /// WAL between the server's end and what is acknowledged.
    pub lag_bytes: i64,
    /// WAL that can still be written before the slot may be lost; `None` where that is unlimited.
    pub safe_bytes: Option<i64>,
}

const COUNTS: &str = "
    select s.total_jobs, s.pending_jobs, s.processing_jobs, s.completed_jobs, s.failed_jobs,
           (select count(*) from (
                select q.status, q.started_at, q.created_at from public.elasticsearch_sync_queue q
                where q.status = 'processing' and q.created_at < now() - interval '30 s'
                order by q.created_at limit 10000) q
            where {STUCK}),
           s.avg_processing_time::float8,
           to_char(s.last_processed_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
    from public.get_elasticsearch_queue_stats() s";

/// The commit time of the oldest job that is so. What is looked for stands at the front of the index
/// on status and commit time. Nobody was late since before all time.
macro_rules! oldest {
    ($which:literal) => {
        concat!(
            "(select q.created_at from public.elasticsearch_sync_queue q
              where isfinite(q.created_at) and ",
            $which,
            " order by q.created_at limit 1)"
        )
    };
}

const REST: &str = concat!(
    "with first as (select ",
    oldest!("q.status = 'pending'"),
    " as pending, ",
    oldest!(
        "q.status = 'pending'
           and (q.next_attempt_at is null or q.next_attempt_at < now() - interval '5 s')"
    ),
    " as due, ",
    oldest!("q.status = 'processing'"),
    " as processing, ",
    oldest!("q.status = 'failed'"),
    " as failed)
    select to_char(least(f.due, f.processing) at time zone 'UTC',
                   'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
           extract(epoch from clock_timestamp() - least(f.due, f.processing))::float8,
           coalesce(c.indexing, true),
           to_char(c.changed_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
           coalesce((select settled_lsn from walferry.settlement s where s.slot = n.slot), '0/0'),
           coalesce((select q.id from public.elasticsearch_sync_queue q
                     order by q.id desc limit 1), 0),
           array(select q.id from public.elasticsearch_sync_queue q
                 where q.status in ('completed', 'failed') and q.processed_at > now() - interval '2 s'
                 order by q.processed_at desc limit 100),
           extract(epoch from clock_timestamp() - f.pending)::float8,
           extract(epoch from clock_timestamp() - f.processing)::float8,
           extract(epoch from clock_timestamp() - f.failed)::float8
    from first f
    cross join (select $1::text as slot) n
    left join walferry.control c on c.slot = n.slot"
);

const SLOT: &str = "
    select s.active, s.wal_status,
           coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint,
           coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn), 0)::bigint,
           s.safe_wal_size
    from pg_catalog.pg_replication_slots s where s.slot_name = $1";

const SPILLED: &str = "select s.spill_bytes, s.spill_txns
    from pg_catalog.pg_stat_replication_slots s where s.slot_name = $1";

/// Bytes and transactions that PostgreSQL spilled while decoding for a slot; `None` before it has
/// decoded anything. Version 14 may take seconds for it, so nobody who is in a hurry asks.
///
/// # Errors
/// What the query returns.
pub async fn spilled(
    client: &Client,
    slot: &str,
) -> Result<Option<(u64, u64)>, tokio_postgres::Error> {
    let Some(row) = client.query_opt(SPILLED, &[&slot]).await? else { return Ok(None) };
    let count = |at: usize| row.try_get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(Some((count(0)?, count(1)?)))
}

/// How it is now.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn read(client: &Client, slot: &str) -> Result<Sample, QueueError> {
    let counts = counts(client).await?;
    let reading = "read how the queue is";
    let row = client.query_one(REST, &[&slot]).await.map_err(doing(reading))?;
    let state = slot_state(client, slot).await?;
    rest_of(&row, counts, state).map_err(doing(reading))
}

/// A role that may not look at slots costs these figures and nothing else.
async fn slot_state(client: &Client, slot: &str) -> Result<SlotState, QueueError> {
    let reading = "read how the slot is";
    let row = match client.query_opt(SLOT, &[&slot]).await {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(SlotState::Missing),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Ok(SlotState::Refused);
        }
        Err(error) => return Err(doing(reading)(error)),
    };
    let known = || -> Result<Slot, tokio_postgres::Error> {
        Ok(Slot {
            active: row.try_get(0)?,
            wal_status: row.try_get(1)?,
            retained_bytes: row.try_get(2)?,
            lag_bytes: row.try_get(3)?,
            safe_bytes: row.try_get(4)?,
        })
    };
    known().map(SlotState::Known).map_err(doing(reading))
}

/// The statistics alone.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn counts(client: &Client) -> Result<Counts, QueueError> {
    let reading = "read the statistics";
    let sql = COUNTS.replace("{STUCK}", STUCK);
    let row = client.query_one(&sql, &[]).await.map_err(doing(reading))?;
    counts_of(&row).map_err(doing(reading))
}

fn counts_of(row: &Row) -> Result<Counts, tokio_postgres::Error> {
    Ok(Counts {
        total: row.try_get(0)?,
        pending: row.try_get(1)?,
        processing: row.try_get(2)?,
        completed: row.try_get(3)?,
        failed: row.try_get(4)?,
        stuck: row.try_get(5)?,
        processing_time_ms: row.try_get::<_, Option<f64>>(6)?.unwrap_or(0.0),
        last_processed_at: row.try_get(7)?,
    })
}

fn rest_of(row: &Row, counts: Counts, slot: SlotState) -> Result<Sample, tokio_postgres::Error> {
    let since: Option<f64> = row.try_get(1)?;
    let age = |at: usize| -> Result<f64, tokio_postgres::Error> {
        Ok(row.try_get::<_, Option<f64>>(at)?.unwrap_or(0.0).max(0.0))
    };
    Ok(Sample {
        counts,
        oldest: Oldest { pending: age(7)?, processing: age(8)?, failed: age(9)? },
        oldest_unfinished: row
            .try_get::<_, Option<String>>(0)?
            .zip(since)
            .map(|(at, age_seconds)| Moment { at, age_seconds }),
        indexing: row.try_get(2)?,
        chosen_at: row.try_get(3)?,
        settled: lsn(row.try_get::<_, PgLsn>(4)?),
        newest_id: row.try_get(5)?,
        ended_ids: row.try_get(6)?,
        slot,
    })
}
