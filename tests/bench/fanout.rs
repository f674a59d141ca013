//! A category of a million listings is renamed beside 500 inserts a second: how long its documents
//! take to be rewritten, and the time from commit to completion of the inserts meanwhile.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::figures::spread;
use crate::load;
use crate::rig::Rig;

/// The listings of the category.
const LISTINGS: u32 = 1_000_000;
/// The rows of a transaction, and the interval between two.
const ROWS: u32 = 5;
const EVERY: Duration = Duration::from_millis(10);
/// The interval between two checks of progress.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The time after which the measurement fails.
const MEASURE_MAX: Duration = Duration::from_secs(3600);

/// The result of one run.
pub(crate) struct Fanout {
    seconds: f64,
    completed: Vec<Duration>,
    /// Inserts that had to wait in the table.
    captured: i64,
    peak_mebibytes: u64,
}

impl fmt::Display for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{LISTINGS} documents in {:.0} s, {:.0}/s; beside it, commit to completed receipt: {}; \
             at most {} jobs were pending; peak {} MiB",
            self.seconds,
            f64::from(LISTINGS) / self.seconds,
            spread(&self.completed),
            self.captured,
            self.peak_mebibytes,
        )
    }
}

pub(crate) async fn run() -> Fanout {
    let rig = Rig::up(None).await;
    load::prepare(rig.sql()).await;
    for first in (1..=LISTINGS).step_by(10_000) {
        load::insert_in(rig.sql(), first, first + 9_999, "1").await;
    }
    let mut walferry = rig.start_and_ready().await;
    let loaded = "select count(*) > 0 and count(*) = count(done_at) from walferry.load";
    until(&rig, loaded).await;
    rig.sql()
        .run(&format!("update categories set name = 'Yeni' where id = {}", load::id("b", "1")))
        .await;
    let done = "select count(*) > 0 from elasticsearch_sync_queue
        where table_name = 'categories' and status = 'completed'";
    let mut captured = 0;
    tokio::select! {
        () = write(&rig) => {}
        () = count_captured(&rig, &mut captured) => {}
        () = until(&rig, done) => {}
    }
    let seconds = "select extract(epoch from processed_at - created_at)::float8
        from elasticsearch_sync_queue where table_name = 'categories'";
    let seconds = rig.value(seconds).await;
    let peak_mebibytes = walferry.rss_bytes().highest >> 20;
    let latencies = "select extract(epoch from processed_at - created_at)::float8
        from elasticsearch_sync_queue where table_name = 'listings' and status = 'completed'";
    let latencies: Vec<f64> = rig.sql().column(latencies, &[]).await;
    walferry.stop().await;
    Fanout {
        seconds,
        completed: latencies
            .into_iter()
            .map(|seconds| Duration::from_secs_f64(seconds.max(0.0)))
            .collect(),
        captured,
        peak_mebibytes,
    }
}

/// Inserts without end. Its own session, since the other one waits for the end of the fan-out.
async fn write(rig: &Rig) {
    let session = rig.bed.connect().await;
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = LISTINGS + 1;
    loop {
        pace.tick().await;
        load::insert(&session, first, first + ROWS - 1).await;
        first += ROWS;
    }
}

/// The most inserts that were `pending` at one moment.
async fn count_captured(rig: &Rig, captured: &mut i64) {
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let pending = "select pending_jobs from get_elasticsearch_queue_stats()";
        *captured = rig.value::<i64>(pending).await.max(*captured);
    }
}

async fn until(rig: &Rig, condition: &str) {
    let end = Instant::now() + MEASURE_MAX;
    let mut looks = interval(LOOK_EVERY);
    while !rig.value::<bool>(condition).await {
        looks.tick().await;
        assert!(Instant::now() < end, "not within {MEASURE_MAX:?}: {condition}");
    }
}
