//! The latency at 1,000 inserts a second, ten in a transaction, for half a minute: from the commit to
//! the completion of the job, which follows the answer of Elasticsearch, and to the first count that
//! includes the document.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::figures::spread;
use crate::rig::Rig;
use crate::{cost, load};

/// The rows of a transaction.
const ROWS: u32 = 10;
/// The interval between two transactions.
const EVERY: Duration = Duration::from_millis(10);
/// The transactions before and during the measurement.
const WARM_UP: u32 = 300;
const MEASURED: u32 = 3000;
/// The interval between two counts, which is the resolution of the measurement.
const COUNT_EVERY: Duration = Duration::from_millis(10);
/// The time after which the measurement fails.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// The result of one run.
pub(crate) struct Latency {
    completed: Vec<Duration>,
    searchable: Vec<Duration>,
    /// The inserts per second of the writer.
    rate: f64,
    /// The processor time of walferry per change in microseconds.
    own: f64,
    peak_mebibytes: u64,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at {:.0}/s\n  commit to completed receipt: {}\n  commit to searchable: {}\n  \
             {:.0} µs of CPU per change, peak {} MiB",
            self.rate,
            spread(&self.completed),
            spread(&self.searchable),
            self.own,
            self.peak_mebibytes,
        )
    }
}

pub(crate) async fn run() -> Latency {
    let rig = Rig::up(None).await;
    load::prepare(rig.sql()).await;
    let mut walferry = rig.start_and_ready().await;
    let (commits, counts) = tokio::join!(write(&rig), count(&rig));
    let own = cost::cpu(walferry.pid());
    let peak_mebibytes = walferry.rss_bytes().highest >> 20;
    let all = WARM_UP + MEASURED;
    drained(&rig, i64::from(all * ROWS)).await;
    let writing = *commits.last().expect("something was written") - commits[0];
    walferry.stop().await;
    Latency {
        completed: completed(&rig).await,
        searchable: searchable(&commits, &counts),
        rate: f64::from((all - 1) * ROWS) / writing.as_secs_f64(),
        own: own.as_secs_f64() * 1e6 / f64::from(all * ROWS),
        peak_mebibytes,
    }
}

/// The times at which the commits returned.
async fn write(rig: &Rig) -> Vec<Instant> {
    let mut commits = Vec::new();
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0..WARM_UP + MEASURED {
        pace.tick().await;
        load::insert(rig.sql(), n * ROWS + 1, (n + 1) * ROWS).await;
        commits.push(Instant::now());
    }
    commits
}

/// The counts of a reader with their times, up to the count of all documents.
async fn count(rig: &Rig) -> Vec<(Instant, u64)> {
    let all = u64::from((WARM_UP + MEASURED) * ROWS);
    let end = Instant::now() + EVERY * (WARM_UP + MEASURED) + DRAIN_MAX;
    let mut counts = Vec::new();
    let mut pace = interval(COUNT_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let seen = rig.searchable().await;
        let now = Instant::now();
        counts.push((now, seen));
        if seen >= all {
            return counts;
        }
        assert!(now < end, "only {seen} of {all} documents became searchable");
    }
}

/// Transactions commit in order, so the n-th one is visible when its last row is counted.
fn searchable(commits: &[Instant], counts: &[(Instant, u64)]) -> Vec<Duration> {
    let mut counts = counts.iter().peekable();
    let mut latencies = Vec::new();
    for (rows, commit) in (1..).map(|n: u64| n * u64::from(ROWS)).zip(commits) {
        while counts.next_if(|(_, seen)| *seen < rows).is_some() {}
        let (at, _) = counts.peek().expect("the last count sees all");
        latencies.push(at.saturating_duration_since(*commit));
    }
    latencies.split_off(usize::try_from(WARM_UP).expect("a small number"))
}

/// Both times are those of the database: of the commit, and of the transaction that completes the
/// job.
async fn completed(rig: &Rig) -> Vec<Duration> {
    let query = format!(
        "select extract(epoch from processed_at - created_at)::float8 from elasticsearch_sync_queue
         where record_id > {}",
        load::id("c", &(WARM_UP * ROWS).to_string())
    );
    let seconds: Vec<f64> = rig.sql().column(&query, &[]).await;
    seconds.into_iter().map(|seconds| Duration::from_secs_f64(seconds.max(0.0))).collect()
}

async fn drained(rig: &Rig, jobs: i64) {
    let end = Instant::now() + DRAIN_MAX;
    let mut looks = interval(COUNT_EVERY);
    while rig.receipts().await.1 < jobs {
        looks.tick().await;
        assert!(Instant::now() < end, "not every change has a completed receipt");
    }
}
