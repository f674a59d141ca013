//! Stuck jobs: `processing` although nobody works on them.
//!
//! The rules and messages are the replaced system's: `processing` for longer than 30 s (which
//! includes its third rule, longer than 10 minutes), or with two attempts behind it. What differs
//! is that a job with a live request is never stuck, and that a row moves only if it is still as it
//! was when it was looked at. A job that is rescued by mistake does no harm: it goes back into the
//! one feed.
//!
//! Not here: when to look (`engine::supervisor::rescue`), and taking up what became `pending` (`claim`).

use std::time::Duration;

use postgres_types::PgLsn;
use tokio_postgres::Client;

use super::retry::RetryPolicy;
use super::settle::SESSION;
use crate::ack::in_flight::InFlight;
use crate::change::Micros;
use crate::storage::lease::Lease;
use crate::storage::leased_transaction::LeasedTransaction;
use crate::storage::sql::position;
use crate::storage::{QueueError, doing};

/// `processing` for longer than this is stuck.
pub const HORIZON: Duration = Duration::from_secs(30);

/// Attempts from which on a job is stuck at once.
const ATTEMPTS_STUCK: i32 = 2;

/// Jobs moved in one pass; the next pass has the rest.
const JOBS_MAX: i64 = 10_000;

const CANDIDATES: &str = "select id, created_at, started_at, commit_lsn, ordinal
    from public.elasticsearch_sync_queue
    where status = 'processing'
      and (coalesce(started_at, created_at) < clock_timestamp() - make_interval(secs => $1)
           or coalesce(started_at, created_at) > clock_timestamp() + make_interval(secs => $1)
           or coalesce(retry_count, 0) >= $2)
    order by created_at limit $3";

/// Compares before it sets. A note made when the row was recorded stays.
const MOVE: &str = "with moved as (
        update public.elasticsearch_sync_queue q
        set status = case when coalesce(q.retry_count, 0) >= $4 then 'failed' else 'pending' end,
            processed_at = clock_timestamp(), started_at = null, epoch = null,
            next_attempt_at = null,
            error_message = concat_ws(E'\\n',
                case when coalesce(q.retry_count, 0) >= $4
                    then format('Max retries exceeded (%s/%s)', q.retry_count, $4)
                    else format('Reset from stuck state after %sms', case
                        when isfinite(q.created_at) then trunc(1000
                            * extract(epoch from clock_timestamp() - q.created_at)) end)
                end,
                substring(q.error_message from '(?n)^note: .*$'))
        from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as f (id, created_at, started_at)
        where q.id = f.id and q.created_at = f.created_at and q.status || '' = 'processing'
          and q.started_at is not distinct from f.started_at
        returning q.status
    )
    select count(*) filter (where status = 'pending'), count(*) filter (where status = 'failed')
    from moved";

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Jobs that are `pending` again.
    pub reset: u64,
    /// Jobs that had no attempt left: `failed`.
    pub failed: u64,
}

impl Rescued {
    /// All that moved.
    #[must_use]
    pub fn total(self) -> u64 {
        self.reset + self.failed
    }
}

/// Looks for stuck jobs, on a connection of its own.
#[derive(Debug)]
pub struct Rescuer {
    client: Client,
    guard: LeasedTransaction,
    attempts_max: i32,
}

impl Rescuer {
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn new(
        client: Client,
        lease: &Lease,
        policy: RetryPolicy,
    ) -> Result<Self, QueueError> {
        client.batch_execute(SESSION).await.map_err(doing("prepare the rescue"))?;
        let guard = LeasedTransaction::prepare(&client, lease).await?;
        Ok(Self { client, guard, attempts_max: policy.attempts() })
    }

    /// Moves every stuck job that nobody holds.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`]; then nothing has moved.
    pub async fn pass(&mut self, alive: &InFlight) -> Result<Rescued, QueueError> {
        let failed = doing("look for stuck jobs");
        let horizon = HORIZON.as_secs_f64();
        let found = self.client.query(CANDIDATES, &[&horizon, &ATTEMPTS_STUCK, &JOBS_MAX]).await;
        // After the look: who took a job up before it is on the list by now.
        let living = alive.now();
        let (mut ids, mut created, mut started) = (Vec::new(), Vec::new(), Vec::new());
        for row in &found.map_err(&failed)? {
            let id: i64 = row.try_get(0).map_err(&failed)?;
            let lsn: Option<PgLsn> = row.try_get(3).map_err(&failed)?;
            let ordinal: Option<i64> = row.try_get(4).map_err(&failed)?;
            if living.holds(id, lsn.map(|lsn| position(lsn, ordinal.unwrap_or_default()))) {
                continue;
            }
            ids.push(id);
            created.push(row.try_get::<_, Micros>(1).map_err(&failed)?);
            started.push(row.try_get::<_, Option<Micros>>(2).map_err(&failed)?);
        }
        if ids.is_empty() {
            return Ok(Rescued::default());
        }
        let body = async {
            let parameters: [&(dyn postgres_types::ToSql + Sync); 4] =
                [&ids, &created, &started, &self.attempts_max];
            let row = self.client.query_one(MOVE, &parameters).await;
            let row = row.map_err(doing("move stuck jobs"))?;
            let count = |index| row.try_get(index).map(crate::storage::sql::count);
            let (reset, failed) = (count(0), count(1));
            Ok(Rescued {
                reset: reset.map_err(doing("count stuck jobs"))?,
                failed: failed.map_err(doing("count stuck jobs"))?,
            })
        };
        self.guard.run(&self.client, body).await
    }
}
