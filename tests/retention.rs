//! An idle published table in a busy database retains no WAL.

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
