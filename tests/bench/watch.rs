//! The cost of monitoring: the time of a scrape, and the cost of the queue's statistics in
//! PostgreSQL, by its own counters.
//!
//! Not here: the latency of the API (`api`).

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use walferry::admin::figures::sample;

use crate::cost;
use crate::figures::spread;
use crate::rig::Rig;
use crate::support::Walferry;
use crate::support::scans::scanned;

/// The interval between two scrapes, which is much shorter than usual.
const SCRAPE_EVERY: Duration = Duration::from_millis(20);
/// The number of reads of the statistics.
const READINGS: u32 = 200;

/// The times of the scrapes until the task is stopped.
pub(crate) async fn scrape(walferry: &Walferry, stop: &CancellationToken) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut pace = interval(SCRAPE_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        pace.tick().await;
        let started = Instant::now();
        let (status, text) = walferry.http_get("/metrics").await.expect("walferry answers");
        times.push(started.elapsed());
        assert!(status == 200 && text.contains("walferry_queue_jobs{"), "{status}: {text}");
    }
    times
}

/// The reads of the queue's partitions by all sessions, and the cost of the session that samples.
pub(crate) struct Reads {
    scans: i64,
    rows: i64,
    by_index: i64,
    /// The blocks of that session: found in shared buffers, and read from disk.
    sample_blocks: (i64, i64),
    sample_cpu: Duration,
    at: Instant,
}

const PARTS: &str = "from pg_stat_user_tables
    where relid in (select relid from pg_partition_tree('public.elasticsearch_sync_queue'))";
const SAMPLER: &str =
    "from pg_stat_activity where datname = current_database() and application_name like '%sample'";

impl Reads {
    pub(crate) async fn of(rig: &Rig) -> Self {
        let sum = async |column: &str| -> i64 {
            rig.value(&format!("select coalesce(sum({column}), 0)::bigint {PARTS}")).await
        };
        let pid: i32 = rig.value(&format!("select pid {SAMPLER}")).await;
        let blocks = async |column: &str| -> i64 {
            let io = format!("pg_stat_get_backend_io({pid})");
            rig.value(&format!("select coalesce(sum({column}), 0)::bigint from {io}")).await
        };
        Self {
            scans: sum("seq_scan").await,
            rows: sum("seq_tup_read").await,
            by_index: sum("idx_scan").await,
            sample_blocks: (blocks("hits").await, blocks("reads").await),
            sample_cpu: cost::cpu(u32::try_from(pid).expect("a process has a number")),
            at: Instant::now(),
        }
    }

    pub(crate) fn since(self, before: &Self) -> Self {
        let (hits, reads) = before.sample_blocks;
        Self {
            scans: self.scans - before.scans,
            rows: self.rows - before.rows,
            by_index: self.by_index - before.by_index,
            sample_blocks: (self.sample_blocks.0 - hits, self.sample_blocks.1 - reads),
            sample_cpu: self.sample_cpu.saturating_sub(before.sample_cpu),
            at: Instant::now() - before.at.elapsed(),
        }
    }
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "in {:.1} s everybody read the queue's parts by {} sequential scans ({} rows) and {} \
             index scans; the duty that samples cost PostgreSQL {} ms of CPU, {} blocks of its \
             buffers and {} of its disk",
            self.at.elapsed().as_secs_f64(),
            self.scans,
            self.rows,
            self.by_index,
            self.sample_cpu.as_millis(),
            self.sample_blocks.0,
            self.sample_blocks.1,
        )
    }
}

/// The time of a read of the statistics, and the partitions that it scanned sequentially.
pub(crate) async fn figures(rig: &Rig) -> String {
    let sql = rig.sql();
    let mut times = Vec::new();
    for _ in 0..READINGS {
        let began = Instant::now();
        sample::read(sql, &rig.bed.slot).await.expect("a sample can be read");
        times.push(began.elapsed());
    }
    let scanned = scanned(sql, async |client| sample::read(client, &rig.bed.slot).await).await;
    format!("  figures for metrics and API: {}; scanned: {scanned:?}", spread(&times))
}
