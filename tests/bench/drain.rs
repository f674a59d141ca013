//! The time in which walferry indexes 300,000 jobs of the queue table, the backlog of an outage of
//! ten minutes at 500 changes a second.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::load;
use crate::rig::Rig;

const CHANGES: u32 = 300_000;
/// The interval between two counts.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The time after which the measurement fails.
const DRAIN_MAX: Duration = Duration::from_secs(900);

/// The seconds, and the changes per second.
pub(crate) async fn run() -> (f64, f64) {
    let rig = Rig::up(None).await;
    load::prepare(rig.sql()).await;
    let mut walferry = rig.start_and_ready().await;
    rig.loaded().await;
    let (code, body) = walferry.post_json("/api/v1/queue/stop", None).await;
    assert_eq!(code, 200, "{body}");
    load::backlog(rig.sql(), CHANGES / 5 * 4, CHANGES / 5).await;
    until(&rig, "pending_jobs").await;
    let started = Instant::now();
    let (code, body) = walferry.post_json("/api/v1/queue/start", None).await;
    assert_eq!(code, 200, "{body}");
    until(&rig, "completed_jobs").await;
    let took = started.elapsed().as_secs_f64();
    let receipts = (i64::from(CHANGES), i64::from(CHANGES));
    assert_eq!(rig.receipts().await, receipts, "one completed receipt per change");
    walferry.stop().await;
    (took, f64::from(CHANGES) / took)
}

async fn until(rig: &Rig, column: &str) {
    let sql = format!("select {column} from get_elasticsearch_queue_stats()");
    let end = Instant::now() + DRAIN_MAX;
    let mut looks = interval(LOOK_EVERY);
    while rig.value::<i64>(&sql).await < i64::from(CHANGES) {
        looks.tick().await;
        assert!(Instant::now() < end, "stuck before all are {column}");
    }
}
