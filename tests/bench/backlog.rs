//! The time in which walferry indexes a backlog of 150,000 changes on the slot, from its start until
//! all jobs are completed and all documents are indexed.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::figures::Run;
use crate::rig::Rig;
use crate::{cost, load};

const INSERTS: u32 = 120_000;
const UPDATES: u32 = 30_000;
/// The interval between two counts.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The time after which the measurement fails.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

pub(crate) async fn run(definition: Option<&'static str>) -> Run {
    let rig = Rig::up(definition).await;
    load::prepare(rig.sql()).await;
    // The first start creates the slot and loads the existing rows.
    let mut first = rig.start_and_ready().await;
    rig.loaded().await;
    first.stop().await;
    load::backlog(rig.sql(), INSERTS, UPDATES).await;
    rig.sql().run("checkpoint").await;
    let end: String = rig.value("select pg_current_wal_flush_lsn()::text").await;
    let changes = INSERTS + UPDATES;
    let before = rig.used();
    let started = Instant::now();
    let mut walferry = rig.start();
    let mut looks = interval(LOOK_EVERY);
    while !rig.has_settled(&end).await {
        assert!(walferry.is_running(), "walferry ended: {}", walferry.output_end());
        assert!(started.elapsed() < CATCH_UP_MAX, "stuck: {}", walferry.output_end());
        looks.tick().await;
    }
    let took = started.elapsed();
    let after = rig.used();
    let own = cost::cpu(walferry.pid());
    let peak_mebibytes = walferry.rss_bytes().highest >> 20;
    assert_eq!(rig.documents().await, u64::from(INSERTS), "every document is there");
    let receipts = (i64::from(changes), i64::from(changes));
    assert_eq!(rig.receipts().await, receipts, "one completed receipt per change");
    walferry.stop().await;
    let per_change = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(changes);
    Run {
        seconds: took.as_secs_f64(),
        changes_per_second: f64::from(changes) / took.as_secs_f64(),
        walferry: per_change(own),
        postgres: per_change(after.postgres - before.postgres),
        elasticsearch: per_change(after.elasticsearch - before.elasticsearch),
        peak_mebibytes,
    }
}
