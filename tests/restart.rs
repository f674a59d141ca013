//! What is true in the end when walferry, or PostgreSQL, dies at any moment while several sessions
//! write: every change has one receipt, every index equals the tables, and nobody saw a document
//! go back.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::scene::{Scene, lives, until};
use crate::support::launcher::note;
use crate::workload::statements::Extras;
use crate::workload::watch::watch;
use crate::workload::{Workload, seeds, settings};

/// Kills of one run.
const KILLS: usize = 24;
/// Crashes of PostgreSQL in one run.
const CRASHES: usize = 4;
/// How long catching up may take after the last fault.
const RECOVERY_MAX: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_loses_repeats_and_reverts_nothing() {
    for seed in seeds(100, 2) {
        let extras = Extras { truncate: seed % 2 == 0, deferrable_keys: seed % 4 == 1 };
        killed_often(seed, extras).await;
    }
}

async fn killed_often(seed: u64, extras: Extras) {
    let scene = Scene::new("killed").await;
    let workload = Workload { database: scene.database(), seed, extras };
    workload.prepare().await;
    let mut walferry = scene.start_with(settings(seed));
    // From here on each change is on the slot; the first load may still be going on.
    scene.slot_made().await;
    scene.forget_witnessed().await;
    let (stop, watched) = (CancellationToken::new(), CancellationToken::new());
    let writing = tokio::spawn({
        let (workload, stop) = (workload.clone(), stop.clone());
        async move { workload.run(usize::MAX, &stop).await }
    });
    scene.indices_made().await;
    let watching = tokio::spawn(watch(scene.indices.clone(), watched.clone()));
    let mut rng = fastrand::Rng::with_seed(seed);
    for kill in 0..KILLS {
        // Short lives die while starting, longer ones at work.
        let life = Duration::from_millis(rng.u64(20..if kill % 3 == 0 { 2000 } else { 700 }));
        lives(&mut walferry, life).await;
        walferry.kill9();
        walferry = scene.start_with(settings(seed));
    }
    stop.cancel();
    let committed = writing.await.expect("the sessions end");
    scene.settled(RECOVERY_MAX).await;
    watched.cancel();
    let (looks, backward) = watching.await.expect("the watcher ends");
    note(&format!("seed {seed}: {committed} transactions, {KILLS} kills, {looks} looks"));
    assert_eq!(backward, Vec::<String>::new(), "seed {seed}");
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_is_survived_without_a_restart() {
    for seed in seeds(200, 1) {
        crashed_often(seed).await;
    }
}

async fn crashed_often(seed: u64) {
    let mut scene = Scene::with_own_postgres("crashed", &[]).await;
    let extras = Extras { truncate: true, deferrable_keys: false };
    let workload = Workload { database: scene.database(), seed, extras };
    workload.prepare().await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    let (stop, watched) = (CancellationToken::new(), CancellationToken::new());
    let writing = tokio::spawn({
        let (workload, stop) = (workload.clone(), stop.clone());
        async move { workload.run(usize::MAX, &stop).await }
    });
    let watching = tokio::spawn(watch(scene.indices.clone(), watched.clone()));
    for crash in 1..=CRASHES {
        // Something must be under way: wait for new receipts, then crash among them.
        let sql = "select count(*) from elasticsearch_sync_queue";
        let before = scene.number(sql).await;
        until(RECOVERY_MAX, "receipts since the last crash", async || {
            scene.number(sql).await > before + 50
        })
        .await;
        scene.crash_postgres().await;
        note(&format!("seed {seed}: crash {crash}"));
    }
    let sql = "select count(*) from elasticsearch_sync_queue";
    let before = scene.number(sql).await;
    until(RECOVERY_MAX, "receipts after the last crash", async || scene.number(sql).await > before)
        .await;
    stop.cancel();
    let committed = writing.await.expect("the sessions end");
    scene.settled(RECOVERY_MAX).await;
    watched.cancel();
    let (looks, backward) = watching.await.expect("the watcher ends");
    note(&format!("seed {seed}: {committed} transactions, {CRASHES} crashes, {looks} looks"));
    assert_eq!(backward, Vec::<String>::new(), "seed {seed}");
    scene.assert_true().await;
    assert!(walferry.is_running(), "walferry ended by itself: {}", walferry.output_end());
    walferry.stop().await;
}
