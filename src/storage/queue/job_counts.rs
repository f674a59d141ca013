//! Jobs by status without counting rows: the sum over `walferry.job_count` is the truth at every
//! commit, and the SQL function reads it.
//!
//! Triggers on the queue count what is edited in it. The statements that move most jobs count for
//! themselves instead, in their own transactions ([`LeasedTransaction::begin_counted`]), into rows
//! of their own, so that no session waits for another's count.
//!
//! Not here: the triggers (`migrations/0004_job_counts.sql`).
//!
//! [`LeasedTransaction::begin_counted`]: crate::storage::leased_transaction::LeasedTransaction::begin_counted

use futures_util::future::join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::status::Status;
use crate::storage::lease::Lease;
use crate::storage::sql::count;
use crate::storage::{QueueError, doing, leased_transaction};

/// Before the snapshot: a TRUNCATE or a drop that came between the two would be seen by half.
const HOLD_PARTS: &str = "begin; lock table public.elasticsearch_sync_queue in access share mode";

const DROP_EMPTY: &str = "delete from walferry.job_count
    where writer = 'merged' and day < (clock_timestamp() at time zone 'UTC')::date - 1
      and (pending, processing, completed, failed, timed, seconds) = (0, 0, 0, 0, 0, 0)";

const DAY_MICROS: i64 = 86_400_000_000;

/// 2200-01-01, from where on days are counted as one; `walferry.job_day` has the same bounds.
const DAYS_END: i64 = 84_006;

/// The day of a commit time in microseconds since 1970; -1 for those outside the bounds.
fn day(created_at: i64) -> i32 {
    let day = created_at.div_euclid(DAY_MICROS);
    if (0..DAYS_END).contains(&day) { i32::try_from(day).unwrap_or(-1) } else { -1 }
}

/// What a transaction has to add, as the columns that `count_add.sql` takes.
#[derive(Debug, Default)]
pub(in crate::storage) struct Delta {
    days: Vec<i32>,
    statuses: Vec<&'static str>,
    jobs: Vec<i64>,
    timed: Vec<i64>,
    seconds: Vec<String>,
}

impl Delta {
    /// Jobs with these commit times came into `status`.
    pub(in crate::storage) fn came(&mut self, created: impl Iterator<Item = i64>, status: Status) {
        self.runs(created, &[(status, 1)]);
    }

    /// Jobs with these commit times went from one status to another; neither has an end.
    pub(in crate::storage) fn went(
        &mut self,
        created: impl Iterator<Item = i64>,
        from: Status,
        to: Status,
    ) {
        self.runs(created, &[(from, -1), (to, 1)]);
    }

    fn runs(&mut self, created: impl Iterator<Item = i64>, steps: &[(Status, i64)]) {
        let mut run: Option<(i32, i64)> = None;
        for day in created.map(day) {
            match &mut run {
                Some((same, jobs)) if *same == day => *jobs += 1,
                _ => {
                    if let Some((past, jobs)) = run.replace((day, 1)) {
                        self.steps(past, jobs, steps);
                    }
                }
            }
        }
        if let Some((day, jobs)) = run {
            self.steps(day, jobs, steps);
        }
    }

    fn steps(&mut self, day: i32, jobs: i64, steps: &[(Status, i64)]) {
        for (status, sign) in steps {
            self.push(day, *status, sign * jobs, Times::default());
        }
    }

    /// Reads what a statement returned that moved jobs from `from` (`None`: that wrote them) and
    /// counted them: rows of `day`, `status`, `jobs`, `timed` and `seconds`. Returns how many are now in which status.
    pub(in crate::storage) fn arrived(
        &mut self,
        rows: &[Row],
        from: Option<Status>,
    ) -> Result<Vec<(Status, u64)>, tokio_postgres::Error> {
        let mut moved = Vec::with_capacity(rows.len());
        for row in rows {
            let day = row.try_get("day")?;
            let jobs: i64 = row.try_get("jobs")?;
            let to = Status::from_word(row.try_get("status")?)
                .expect("the table's check allows only words of this list");
            if let Some(from) = from {
                self.push(day, from, -jobs, Times::default());
            }
            let times = Times { timed: row.try_get("timed")?, seconds: row.try_get("seconds")? };
            self.push(day, to, jobs, times);
            moved.push((to, count(jobs)));
        }
        Ok(moved)
    }

    fn push(&mut self, day: i32, status: Status, jobs: i64, times: Times) {
        self.days.push(day);
        self.statuses.push(status.as_str());
        self.jobs.push(jobs);
        self.timed.push(times.timed);
        self.seconds.push(times.seconds);
    }
}

/// How many jobs have a known time, and the sum of these times in seconds, as text of a `numeric`.
struct Times {
    timed: i64,
    seconds: String,
}

impl Default for Times {
    fn default() -> Self {
        Self { timed: 0, seconds: "0".to_owned() }
    }
}

/// Adds to one session's rows.
#[derive(Debug)]
pub(in crate::storage) struct Counter {
    writer: String,
    add: Statement,
}

impl Counter {
    /// `purpose` tells the sessions of a run apart.
    pub(in crate::storage) async fn prepare(
        client: &Client,
        lease: &Lease,
        purpose: &str,
    ) -> Result<Self, QueueError> {
        let add = client
            .prepare(include_str!("count_add.sql"))
            .await
            .map_err(doing("prepare the count"))?;
        Ok(Self { writer: format!("{purpose}/{}", lease.slot), add })
    }

    /// Adds, in a transaction begun with `begin_counted`.
    pub(in crate::storage) async fn add(
        &self,
        client: &Client,
        delta: &Delta,
    ) -> Result<(), QueueError> {
        if delta.days.is_empty() {
            return Ok(());
        }
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&self.writer, &delta.days, &delta.statuses, &delta.jobs, &delta.timed, &delta.seconds];
        client.execute(&self.add, &parameters).await.map(drop).map_err(doing("count jobs"))
    }

    /// Adds and commits in one go. Where the adding fails the commit is a rollback.
    pub(in crate::storage) async fn commit(
        &self,
        client: &Client,
        delta: &Delta,
    ) -> Result<(), QueueError> {
        let (added, committed) =
            join(self.add(client, delta), leased_transaction::commit(client)).await;
        added.and(committed)
    }
}

/// How many jobs the counts are off by, a status at a time; with `mend` they are exact afterwards.
/// One at a time (`maintain`).
pub(in crate::storage) async fn recount(client: &Client, mend: bool) -> Result<u64, QueueError> {
    const RECOUNT: &str = include_str!("count_recount.sql");
    let failed = doing("count all jobs");
    client.batch_execute(HOLD_PARTS).await.map_err(&failed)?;
    match client.query_one(RECOUNT, &[&mend]).await.and_then(|row| row.try_get("jobs_off")) {
        Ok(off) => leased_transaction::commit(client).await.map(|()| count(off)),
        Err(error) => Err(leased_transaction::rolled_back(client, failed(error)).await),
    }
}

/// Keeps the table of counts short.
pub(in crate::storage) async fn merge(client: &Client) -> Result<(), QueueError> {
    for statement in [include_str!("count_merge.sql"), DROP_EMPTY] {
        client.execute(statement, &[]).await.map_err(doing("merge the counts of jobs"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_out_of_bounds_share_a_day() {
        for (micros, expected) in
            [(0, 0), (-1, -1), (DAY_MICROS - 1, 0), (DAY_MICROS, 1), (i64::MAX, -1), (i64::MIN, -1)]
        {
            assert_eq!(day(micros), expected, "{micros}");
        }
        assert_eq!(day(DAYS_END * DAY_MICROS - 1), 84_005);
        assert_eq!(day(DAYS_END * DAY_MICROS), -1);
    }

    #[test]
    fn runs_of_a_day_are_one_line() {
        let mut delta = Delta::default();
        delta.came([0, 1, DAY_MICROS, 2].into_iter(), Status::Pending);
        delta.went([0, 0].into_iter(), Status::Pending, Status::Processing);
        assert_eq!(delta.days, [0, 1, 0, 0, 0]);
        assert_eq!(delta.jobs, [2, 1, 1, -2, 2]);
        assert_eq!(delta.statuses[3..], ["pending", "processing"]);
    }
}
