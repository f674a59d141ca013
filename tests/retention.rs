//! An idle published table in a busy database retains no WAL, and WAL that others hold switches no
//! guard on.

use std::time::Duration;

use crate::scene::{Scene, until};

/// WAL that other tables write, in MiB.
const NOISE_MEBIBYTES: usize = 400;
/// What the slot may retain after it: a segment, what is written meanwhile, and the distance at
/// which an idle position is stored.
const RETAINED_BYTES_MAX: i64 = 20 << 20;
/// How soon.
const RELEASE_MAX: Duration = Duration::from_secs(120);

const RETAINED: &str = "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
    from pg_replication_slots where slot_type = 'logical'";

#[tokio::test]
async fn an_idle_table_in_a_busy_database_retains_no_wal() {
    let scene = Scene::with_own_postgres("idle", &[]).await;
    let mut walferry = scene.ready().await;
    scene
        .sql("create table noise (body text); alter table noise alter body set storage external")
        .await;
    let before = scene.number("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").await;
    for _ in 0..NOISE_MEBIBYTES / 50 {
        scene
            .sql("insert into noise select repeat('x', 1 << 20) from generate_series(1, 50)")
            .await;
    }
    let after = scene.number("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").await;
    assert!(
        after - before >= i64::try_from(NOISE_MEBIBYTES << 20).expect("it fits"),
        "too little noise"
    );
    until(RELEASE_MAX, "the slot to let go", async || {
        // The restart position moves only past a checkpoint's list of running transactions.
        scene.sql("checkpoint").await;
        scene.number(RETAINED).await < RETAINED_BYTES_MAX
    })
    .await;
    assert_eq!(scene.number("select count(*) from elasticsearch_sync_queue").await, 0);
    walferry.stop().await;
}

/// WAL beyond the guard's limit that an open transaction holds, in MiB.
const HELD_MEBIBYTES: usize = 96;

/// The slot's `restart_lsn` waits for the oldest open transaction. No acknowledgement moves it, so
/// it must not keep the guard on: changes would only be captured, and nothing would be settled.
#[tokio::test]
async fn an_open_transaction_does_not_switch_the_guard_on() {
    let scene = Scene::with_own_postgres("held", &[]).await;
    scene
        .sql("create table noise (body text); alter table noise alter body set storage external")
        .await;
    let settings = [("WALFERRY_LIMITS_RETAINED_WAL_BYTES_MAX", "32MiB")];
    // The first load would wait for the transaction.
    scene.once().await;
    let mut walferry = scene.start_with(&settings);
    walferry.wait_ready(RELEASE_MAX).await;
    let other = scene.bed.connect().await;
    other.run("begin; insert into noise values ('open')").await;
    scene.sql("checkpoint").await;
    for _ in 0..HELD_MEBIBYTES / 8 {
        scene.sql("insert into noise select repeat('x', 1 << 20) from generate_series(1, 8)").await;
        // So slowly that the stream follows, and so long that the guard has seen it.
        scene.sql("checkpoint; select pg_sleep(0.5)").await;
    }
    assert!(scene.number(RETAINED).await > 32 << 20, "the transaction holds the slot's WAL");
    scene.sql("insert into categories (id, name, slug) values (gen_random_uuid(), 'a', 'a')").await;
    scene.settled(RELEASE_MAX).await;
    let metrics = walferry.http_get("/metrics").await.expect("it answers").1;
    assert!(metrics.contains("walferry_pipeline_mode{mode=\"live\"} 1"), "{metrics}");
    assert!(!walferry.output().contains("retention_guard"), "{}", walferry.output_end());
    walferry.stop().await;
    let [(key, value)] = settings;
    let mut once = scene.bed.walferry(&["run", "--once"]).env(key, value).spawn();
    assert_eq!(once.wait_exit(RELEASE_MAX).await, 0, "{}", once.output_end());
    other.run("rollback").await;
    scene.assert_true().await;
}

/// A server that keeps no WAL for slots, and one that keeps little.
#[tokio::test]
async fn a_server_that_keeps_no_wal_for_slots_does_not_switch_the_guard_on() {
    let scene = Scene::with_own_postgres("kept", &[("max_slot_wal_keep_size", "0")]).await;
    let mut walferry = scene.ready().await;
    scene.sql("insert into categories (id, name, slug) values (gen_random_uuid(), 'a', 'a')").await;
    scene.settled(RELEASE_MAX).await;
    assert!(!walferry.output().contains("retention_guard"), "{}", walferry.output_end());
    walferry.stop().await;
}
