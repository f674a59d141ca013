//! What the pipeline waits for has a name, and a wait that is too long is reported. Its transactions
//! make no multixacts, and under a long snapshot nothing that it reads every batch grows.

use std::path::{Path, PathBuf};

use serde_json::Value;
use walferry::telemetry::waits::WaitName;

use super::{RECOVERY_MAX, ROWS, listings, mode_is_live};
use crate::scene::{Scene, until};
use crate::support::eventually;
use crate::support::faults::Fault;
use crate::support::walferry::Walferry;

/// A wait as `health/detailed` shows it.
async fn wait(walferry: &Walferry, name: &str) -> Option<Value> {
    let (_, health) = walferry.get_json("/api/v1/health/detailed").await;
    let waits = health["waits"].as_array().expect("it lists the waits").clone();
    waits.into_iter().find(|wait| wait["name"] == name)
}

/// The value of a series.
async fn metric(walferry: &Walferry, series: &str) -> f64 {
    let (_, text) = walferry.http_get("/metrics").await.expect("metrics are served");
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("{series} is missing"));
    value.trim().parse().expect("a value is a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_postgresql_is_named_while_it_lasts() {
    let scene = Scene::new("waits").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    for (table, name, first) in [
        ("walferry.position", "record", 1),
        ("walferry.settlement", "settle", 11),
        ("walferry.lease", "lease", 21),
    ] {
        let blocker = scene.bed.connect().await;
        blocker.run(&format!("begin; lock table {table} in share mode")).await;
        scene.sql(&listings(first, first + 3)).await;
        until(RECOVERY_MAX, "the wait is named", async || {
            wait(&walferry, name).await.is_some_and(|wait| wait["seconds"].as_f64() > Some(0.5))
        })
        .await;
        let series = format!("walferry_wait_seconds{{wait=\"{name}\"}}");
        until(RECOVERY_MAX, "the metric has it", async || metric(&walferry, &series).await > 0.5)
            .await;
        blocker.run("commit").await;
        scene.settled(RECOVERY_MAX).await;
        until(RECOVERY_MAX, "the wait is over", async || wait(&walferry, name).await.is_none())
            .await;
    }
    scene.assert_true().await;
    walferry.stop().await;
}

/// Waits until each of these waits has lasted for a while.
async fn are_named(walferry: &Walferry, names: &[&str]) {
    for name in names {
        until(RECOVERY_MAX, name, async || {
            wait(walferry, name).await.is_some_and(|wait| wait["seconds"].as_f64() > Some(0.5))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_elasticsearch_is_named_while_it_lasts() {
    let scene = Scene::new("waits_elasticsearch").await;
    scene.sql(ROWS).await;
    let faults = scene.faults().await;
    faults.always("/", Some(Fault::Hang));
    let settings = [
        ("WALFERRY_ELASTICSEARCH_REQUEST_TIMEOUT", "8s"),
        ("WALFERRY_LIMITS_ACTIONS_BYTES_MAX", "1MiB"),
        ("WALFERRY_LIMITS_BULK_BYTES_MAX", "256KiB"),
        ("WALFERRY_LIMITS_BATCH_CHANGES_MAX", "100"),
    ];
    let mut walferry = scene.start_through(&faults, &settings);
    walferry.wait_output("listening", RECOVERY_MAX).await;
    are_named(&walferry, &["elasticsearch"]).await;
    faults.always("/", None);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    mode_is_live(&walferry).await;
    scene.forget_witnessed().await;
    faults.always("/_bulk", Some(Fault::Hang));
    scene.sql(&listings(1, 4000)).await;
    // The recorder waits for the feed, and the feed for Elasticsearch.
    are_named(&walferry, &["live_room", "bulk", "action_room"]).await;
    faults.always("/_bulk", None);
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("no response").await;
    walferry.stop().await;
}

/// A name that no task begins would be shown as fine for ever.
#[test]
fn every_wait_is_begun_somewhere() {
    let stages = ["checkpoint", "feed", "recorder", "run", "sink", "supervisor", "wal"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
    let mut folders: Vec<PathBuf> = stages.map(|stage| root.join(stage)).to_vec();
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a stage has a folder") {
            let path = entry.expect("the folder is read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text += &std::fs::read_to_string(path).expect("sources are text");
            }
        }
    }
    for name in WaitName::ALL {
        let begins = format!("WaitName::{name:?}");
        let is_begun = |rest: &str| !rest.starts_with(char::is_alphanumeric);
        let mut places = text.split(begins.as_str()).skip(1);
        assert!(places.any(is_begun), "no stage begins {begins}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_past_its_bound_is_an_issue_and_in_the_log() {
    let scene = Scene::new("wait_overdue").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    let blocker = scene.bed.connect().await;
    blocker.run("begin; lock table walferry.settlement in share mode").await;
    scene.sql(&listings(1, 3)).await;
    let mut issue = Value::Null;
    eventually(RECOVERY_MAX, "the wait is an issue", async || {
        let (_, health) = walferry.get_json("/api/v1/queue/health").await;
        let details = health["details"].as_array().expect("it lists its issues").clone();
        let found = details.iter().find(|detail| detail["code"] == "wait_overdue").cloned();
        issue = found.ok_or_else(|| health["details"].to_string())?;
        Ok(())
    })
    .await;
    // What comes first to the locked table: the fate of a job, or the position of a read.
    let name = issue["values"]["wait"].as_str().expect("it names the wait");
    assert!(["settle", "progress"].contains(&name), "{issue}");
    let detailed = wait(&walferry, name).await.expect("the wait is shown");
    assert_eq!(detailed["overdue"], true, "{detailed}");
    assert_eq!(detailed["bound_seconds"], 30);
    walferry.wait_output("\"event\":\"wait_overdue\"", RECOVERY_MAX).await;
    blocker.run("commit").await;
    walferry.wait_output("\"event\":\"wait_ended\"", RECOVERY_MAX).await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_a_run_make_no_multixacts() {
    let scene = Scene::with_own_postgres("multixacts", &[]).await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    let next = async || {
        scene.sql("checkpoint").await;
        scene.number("select next_multixact_id::text::bigint from pg_control_checkpoint()").await
    };
    // The application's foreign keys may make some of their own: profiles and categories have none.
    let before = next().await;
    let renewals =
        "select n_tup_upd from pg_stat_all_tables where relid = 'walferry.lease'::regclass";
    let renewed = scene.number(renewals).await;
    let mut number = 0;
    until(RECOVERY_MAX, "the lease is renewed beside changes", async || {
        number += 1;
        scene.sql(&format!("update categories set name = 'Ev {number}'")).await;
        scene.number(renewals).await >= renewed + 5
    })
    .await;
    scene.settled(RECOVERY_MAX).await;
    assert_eq!(next().await - before, 0);
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_long_snapshot_the_positions_are_found_by_their_place() {
    const BATCHES: i64 = 40;
    let scene = Scene::with_own_postgres("long_snapshot", &[]).await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    let snapshot = scene.bed.connect().await;
    snapshot.run("begin isolation level repeatable read; select").await;
    let counts = async |table: &str| {
        let of = |columns: &str| {
            format!("select {columns} from pg_stat_all_tables where relid = '{table}'::regclass")
        };
        (
            scene.number(&of("n_tup_upd")).await,
            scene.number(&of("(seq_scan + coalesce(idx_scan, 0))::bigint")).await,
        )
    };
    let tables = ["walferry.position", "walferry.settlement"];
    let before = [counts(tables[0]).await, counts(tables[1]).await];
    // Each change has a batch and a settlement of its own.
    for number in 1..=BATCHES {
        scene.sql(&format!("update profiles set rating = {number}.5 / 100")).await;
        scene.settled(RECOVERY_MAX).await;
    }
    for (table, (updates, scans)) in tables.into_iter().zip(before) {
        let mut moved = (0, 0);
        until(RECOVERY_MAX, "the statistics are flushed", async || {
            let (now, scanned) = counts(table).await;
            moved = (now - updates, scanned - scans);
            moved.0 >= BATCHES
        })
        .await;
        // Looked for by its key, each update is a scan; besides, a few looks a second read the tables.
        assert!(moved.1 < moved.0, "{table}: {} updates, {} scans", moved.0, moved.1);
    }
    snapshot.run("commit").await;
    walferry.stop().await;
}
