//! Two instances: one works, the other takes over, and a predecessor that comes back does no harm.

use std::time::Duration;

use tokio::time::Instant;

use super::{RECOVERY_MAX, ROWS, Writers, listing, listings, seeded};
use crate::scene::{Scene, status, until};
use crate::support::faults::Fault;
use crate::support::launcher::note;
use crate::support::{Servers, TestBed, Walferry};

/// From the first one's death to the second one's work.
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);

/// Whether the metrics have the queue's figures.
async fn tells(walferry: &Walferry) -> bool {
    let (_, text) = walferry.http_get("/metrics").await.expect("walferry answers");
    text.contains("\nwalferry_queue_jobs{") && text.contains("\nwalferry_queue_sample_timestamp")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_from_a_killed_instance() {
    let scene = Scene::new("standby").await;
    seeded(&scene, 500).await;
    let mut first = scene.ready().await;
    scene.forget_witnessed().await;
    let mut second = scene.start();
    second.wait_output("standing by", RECOVERY_MAX).await;
    let writers = Writers::start(&scene, 500);
    for _ in 0..3 {
        let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
        let before = scene.number(completed).await;
        until(RECOVERY_MAX, "jobs are done", async || scene.number(completed).await > before + 30)
            .await;
        assert_eq!(status(&second, "/readyz").await, Some(503), "a standby is not ready");
        until(RECOVERY_MAX, "who works tells of the queue, and nobody else", async || {
            tells(&first).await && !tells(&second).await
        })
        .await;
        let killed = Instant::now();
        first.kill9();
        second.wait_ready(RECOVERY_MAX).await;
        let took = killed.elapsed();
        note(&format!("taken over {took:?} after a kill -9"));
        assert!(took < TAKE_OVER_MAX, "it took {took:?}");
        first = std::mem::replace(&mut second, scene.start());
    }
    writers.stop().await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_instance_that_comes_back_does_no_harm_even_without_tombstones() {
    let servers = Servers::private_elasticsearch(&[]).await;
    let scene = Scene::unwitnessed_on(TestBed::on("paused", servers).await);
    crate::oracle::install(&scene.bed.sql).await;
    scene.sql(ROWS).await;
    let stage = scene.faults().await;
    let mut first = scene.start_through(&stage, &[]);
    first.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    let mut second = scene.start();
    second.wait_output("standing by", RECOVERY_MAX).await;
    // The first one's request with the listing is on its way when the process is paused.
    stage.script("/_bulk", [Fault::Hold]);
    scene.sql(&listings(1, 1)).await;
    until(RECOVERY_MAX, "the request is under way", async || stage.remaining() == 0).await;
    first.sigstop();
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "the second does it", async || scene.number(completed).await == 1).await;
    scene.sql(&format!("delete from listings where id = '{}'", listing(1))).await;
    until(RECOVERY_MAX, "and its delete", async || scene.number(completed).await == 2).await;
    scene.restart_without_tombstones().await;
    stage.release().await;
    let index = scene.bed.index("listings");
    let found = scene.bed.elasticsearch.document(&index, &listing(1)).await;
    assert_eq!(found, None, "the late request has revived the listing");
    first.sigcont();
    first.wait_output("standing by", RECOVERY_MAX).await;
    scene.sql(&listings(2, 40)).await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    // And it is of use again.
    second.kill9();
    scene.sql("update listings set price = 1").await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    assert!(first.is_running(), "{}", first.output_end());
    first.stop().await;
}
