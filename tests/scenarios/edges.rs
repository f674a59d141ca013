//! Schedules at the edges of the core: jobs from elsewhere, stalls under load, a TRUNCATE in the
//! wrong moment.

use std::time::Duration;

use futures_util::future::join_all;

use super::{RECOVERY_MAX, ROWS, listing, listings};
use crate::scene::{Scene, until};
use crate::support::postgres::Sql;
use crate::support::{Servers, TestBed, Walferry};

/// The database of a restored dump has transaction ids that this cluster has not reached.
const FOREIGN_XID: i64 = 9_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_name_no_transaction_of_this_cluster_are_done() {
    let scene = Scene::new("foreign_xid").await;
    let mut walferry = scene.ready().await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 3)).await;
    scene.settled(RECOVERY_MAX).await;
    for xid in [FOREIGN_XID.to_string(), "null".to_owned()] {
        scene
            .sql(&format!(
                "update elasticsearch_sync_queue set xid = {xid}, status = 'failed'
                 where table_name = 'listings'"
            ))
            .await;
        scene
            .sql("update elasticsearch_sync_queue set status = 'pending' where status = 'failed'")
            .await;
        // The stream goes on beside them.
        scene.sql("update listings set title = title || '!'").await;
        scene.settled(RECOVERY_MAX).await;
        scene.assert_true().await;
    }
    walferry.stop().await;
}

/// Holds every read of the feed, which locks the tables first. Such a transaction also holds up every
/// slot and load that begins on its server, so the server is the test's own.
async fn block_reads(scene: &Scene) -> Sql {
    let session = scene.bed.connect().await;
    session.run("begin; lock table categories in access exclusive mode").await;
    session
}

/// Inserts of listings check no other table, which may be locked.
const WITHOUT_FOREIGN_KEYS: &str = "alter table listings
    drop constraint listings_user_id_fkey, drop constraint listings_category_id_fkey";

/// Changes are captured because nothing settles: the feed is held, and live batches wait for it.
async fn stall(scene: &Scene) {
    for number in 1..=5 {
        scene.sql(&listings(number, number)).await;
    }
    let captured = "select count(*) from elasticsearch_sync_queue where status = 'pending'";
    until(RECOVERY_MAX, "changes are captured", async || scene.number(captured).await > 0).await;
}

async fn ready_in_batches_of_one(servers: &Servers) -> (Scene, Walferry) {
    let scene = Scene::on(TestBed::on("stalled_truncate", servers.clone()).await).await;
    scene.sql(WITHOUT_FOREIGN_KEYS).await;
    scene.sql(ROWS).await;
    let mut walferry = scene.start_with(&[("WALFERRY_LIMITS_BATCH_CHANGES_MAX", "1")]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    (scene, walferry)
}

async fn truncate_after_a_stall(scene: &Scene) {
    let reads = block_reads(scene).await;
    stall(scene).await;
    scene.sql("truncate listings cascade").await;
    let recorded = "select count(*) from elasticsearch_sync_queue where operation = 'TRUNCATE'";
    until(RECOVERY_MAX, "it is captured", async || scene.number(recorded).await > 0).await;
    reads.run("rollback").await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    let overtaken = "select count(*) from elasticsearch_sync_queue job, elasticsearch_sync_queue truncation
        where truncation.operation = 'TRUNCATE' and job.processed_at > truncation.processed_at
          and (job.commit_lsn, job.ordinal) < (truncation.commit_lsn, truncation.ordinal)";
    assert_eq!(scene.number(overtaken).await, 0, "jobs before the TRUNCATE were done after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_captured_after_a_stall_leaves_no_ghost() {
    // Which of the two comes first is left to chance.
    let servers = Servers::private_postgres(&[]).await;
    let scenes = join_all((0..4).map(|_| ready_in_batches_of_one(&servers))).await;
    join_all(scenes.iter().map(|(scene, _)| truncate_after_a_stall(scene))).await;
    for (_, mut walferry) in scenes {
        walferry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_over_once_something_settles() {
    /// Jobs that the feed takes seconds for.
    const JOBS: u32 = 20_000;
    let servers = Servers::private_postgres(&[]).await;
    let scene = Scene::unwitnessed_on(TestBed::on("stall_ends", servers).await);
    scene.sql(WITHOUT_FOREIGN_KEYS).await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    let reads = block_reads(&scene).await;
    stall(&scene).await;
    scene.sql(&listings(10, JOBS)).await;
    let captured = "select count(*) from elasticsearch_sync_queue where status = 'pending'";
    let all = i64::from(JOBS) - 9;
    until(RECOVERY_MAX, "all are captured", async || scene.number(captured).await >= all).await;
    reads.run("rollback").await;
    let completed = format!(
        "select count(*) from elasticsearch_sync_queue
         where status = 'completed' and record_id = '{}'",
        listing(10)
    );
    until(RECOVERY_MAX, "something settles", async || scene.number(&completed).await > 0).await;
    let reads = block_reads(&scene).await;
    assert!(scene.number(captured).await > 0, "the feed is still at the table");
    // The recorder waits for the feed again: the table must not fill faster than it drains.
    scene.sql(&listings(JOBS + 1, JOBS + 1)).await;
    let probe = format!(
        "select count(*) from elasticsearch_sync_queue where record_id = '{}'",
        listing(JOBS + 1)
    );
    let watched = tokio::time::Instant::now();
    while watched.elapsed() < Duration::from_secs(3) {
        assert_eq!(scene.number(&probe).await, 0, "it was captured beside the table");
    }
    reads.run("rollback").await;
    until(RECOVERY_MAX, "the probe is recorded", async || scene.number(&probe).await == 1).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_locks_tables_one_by_one_is_not_aborted() {
    let servers = Servers::private_postgres(&[]).await;
    let scene = Scene::on(TestBed::on("locks_in_turn", servers).await).await;
    scene.sql(WITHOUT_FOREIGN_KEYS).await;
    let mut walferry = scene.ready().await;
    scene.sql(ROWS).await;
    scene.settled(RECOVERY_MAX).await;
    // The new listing needs a read, which locks `listings` before `categories`.
    let migration = block_reads(&scene).await;
    scene.sql(&listings(1, 1)).await;
    let processing = "select count(*) from elasticsearch_sync_queue where status = 'processing'";
    until(RECOVERY_MAX, "a read is due", async || scene.number(processing).await > 0).await;
    let waits = "select count(*) from pg_locks
        where relation = 'categories'::regclass and mode = 'AccessShareLock' and not granted";
    until(RECOVERY_MAX, "a read waits", async || scene.number(waits).await > 0).await;
    migration.run("lock table listings in access exclusive mode").await;
    migration.run("commit").await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}
