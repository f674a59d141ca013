//! Faults of the service: they pass, and no job pays for them.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{RECOVERY_MAX, ROWS, Writers, listings, seeded};
use crate::scene::{Scene, get, lives, status, until};
use crate::support::faults::Fault;
use crate::support::launcher::note;
use crate::support::{Servers, StopMode, TestBed, eventually};

const THROTTLED: &str = r#"{"error":{"type":"es_rejected_execution_exception"},"status":429}"#;
const FORBIDDEN: &str = r#"{"error":{"type":"security_exception"},"status":401}"#;

/// Each fault hits the first load and, again, the stream under way.
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_service_pass_without_a_trace() {
    let few = |fault: Fault, count| vec![fault; count];
    for (seed, (name, faults)) in (300..).zip([
        ("503 for the request", few(Fault::Answer(503, ""), 6)),
        ("429 for the request", few(Fault::Answer(429, THROTTLED), 6)),
        ("the connection breaks", few(Fault::Reset, 6)),
        ("the answer is lost after the bulk was applied", few(Fault::LoseAnswer, 4)),
        ("no answer at all", few(Fault::Hang, 2)),
        ("an answer that is none", few(Fault::Answer(200, "<html>"), 4)),
        ("credentials refused for a while", few(Fault::Answer(401, FORBIDDEN), 4)),
    ]) {
        let scene = Scene::new("weather").await;
        seeded(&scene, seed).await;
        let stage = scene.faults().await;
        stage.script("/_bulk", faults.clone());
        let timeout = [("WALFERRY_ELASTICSEARCH_REQUEST_TIMEOUT", "1s")];
        let mut walferry = scene.start_through(&stage, &timeout);
        scene.slot_made().await;
        scene.forget_witnessed().await;
        let writers = Writers::start(&scene, seed);
        until(RECOVERY_MAX, "the load has met its faults", async || stage.remaining() == 0).await;
        scene.indices_made().await;
        walferry.wait_ready(RECOVERY_MAX).await;
        stage.script("/_bulk", faults);
        until(RECOVERY_MAX, "the stream has met its faults", async || stage.remaining() == 0).await;
        let committed = writers.stop().await;
        scene.settled(RECOVERY_MAX).await;
        scene.assert_true().await;
        scene.assert_no_attempt_lost(name).await;
        note(&format!("{name}: {committed} transactions"));
        walferry.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_minute_of_429_is_waited_out() {
    let scene = Scene::new("throttled").await;
    seeded(&scene, 320).await;
    let stage = scene.faults().await;
    let mut walferry = scene.start_through(&stage, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    let writers = Writers::start(&scene, 320);
    stage.always("/_bulk", Some(Fault::Answer(429, THROTTLED)));
    lives(&mut walferry, Duration::from_secs(30)).await;
    let (ready, body) = get(&walferry, "/readyz").await;
    assert_eq!(ready, 503, "{body:?}");
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    assert_eq!(scene.number(failed).await, 0);
    let waiting = "select count(*) from elasticsearch_sync_queue where status = 'pending'";
    assert!(scene.number(waiting).await > 0, "changes are captured meanwhile");
    stage.always("/_bulk", None);
    writers.stop().await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("429 for 30 s").await;
    until(RECOVERY_MAX, "it is ready again", async || {
        status(&walferry, "/readyz").await == Some(200)
    })
    .await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_block_pauses_its_index_and_no_other() {
    let scene = Scene::new("flooded").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    let index = scene.bed.index("listings-000001");
    let block = |on: bool| json!({ "index.blocks.read_only_allow_delete": on.then_some(true) });
    scene.bed.elasticsearch.put_index_settings(&index, &block(true)).await;
    scene.sql(&listings(1, 50)).await;
    scene.sql("update profiles set bio = 'yeni' where username = 'ayse'").await;
    // The other indices go on: the suggestions of the same listings are there.
    let suggestions = scene.bed.index("ai_suggestions");
    eventually(RECOVERY_MAX, "other indices take documents", async || {
        match scene.bed.elasticsearch.count(&suggestions).await {
            51 => Ok(()),
            found => Err(format!("{found} of 51")),
        }
    })
    .await;
    until(RECOVERY_MAX, "it says so", async || status(&walferry, "/readyz").await == Some(503))
        .await;
    assert!(!scene.statuses().await.contains("failed"), "{}", scene.statuses().await);
    scene.bed.elasticsearch.put_index_settings(&index, &block(false)).await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("a write block").await;
    walferry.stop().await;
}

/// More waits for the closed index than the sink has room for.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_stays_closed_holds_up_no_other() {
    let scene = Scene::new("parked").await;
    scene.sql(ROWS).await;
    let small = [
        ("WALFERRY_LIMITS_BULK_BYTES_MAX", "256KiB"),
        ("WALFERRY_LIMITS_ACTIONS_BYTES_MAX", "1MiB"),
    ];
    let mut walferry = scene.start_with(&small);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    let index = scene.bed.index("ai_suggestions-000001");
    let block = |on: bool| json!({ "index.blocks.write": on.then_some(true) });
    scene.bed.elasticsearch.put_index_settings(&index, &block(true)).await;
    scene.sql(&listings(1, 6000)).await;
    scene.sql("update profiles set bio = 'yeni' where username = 'ayse'").await;
    scene.sql("delete from listings where title in ('İlan 5', 'İlan 5999')").await;
    // Suggestions of listings are listed for it, and those of the closed index wait.
    scene.sql("truncate listings").await;
    scene.sql(&listings(10, 20)).await;
    let open = scene.bed.index("listings");
    eventually(RECOVERY_MAX, "the other indices go on", async || {
        match scene.bed.elasticsearch.count(&open).await {
            11 => Ok(()),
            found => Err(format!("{found} of 11, {}", scene.statuses().await)),
        }
    })
    .await;
    let profiles = "select count(*) from elasticsearch_sync_queue
        where table_name = 'profiles' and status = 'completed'";
    until(RECOVERY_MAX, "the other jobs are completed", async || scene.number(profiles).await == 1)
        .await;
    let waiting = format!(
        "select count(*) from elasticsearch_sync_queue where status = 'pending'
            and retry_count = 0 and error_message like 'waits for index {}ai_suggestions: %'",
        scene.bed.index_prefix
    );
    until(RECOVERY_MAX, "the jobs name what they wait for", async || {
        scene.number(&waiting).await > 0
    })
    .await;
    let (ready, body) = get(&walferry, "/readyz").await;
    assert_eq!(ready, 503, "{body:?}");
    assert!(!scene.statuses().await.contains("failed"), "{}", scene.statuses().await);
    scene.bed.elasticsearch.put_index_settings(&index, &block(false)).await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("a closed index").await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_deleted_under_us_stops_until_it_is_rebuilt() {
    let scene = Scene::new("deleted").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 20)).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    scene.bed.elasticsearch.delete_index(&scene.bed.index("listings-000001")).await;
    scene.sql("update listings set price = 5; delete from listings where title = 'İlan 7'").await;
    eventually(RECOVERY_MAX, "it says what to do", async || {
        let (code, body) = get(&walferry, "/readyz").await;
        let text = format!("{body:?}");
        if code == 503 && text.contains("walferry rebuild") { Ok(()) } else { Err(text) }
    })
    .await;
    assert!(!scene.statuses().await.contains("failed"), "{}", scene.statuses().await);
    let made = scene.bed.elasticsearch.indices(&scene.bed.index("listings")).await;
    assert_eq!(made, Vec::<String>::new(), "no delete has made the index anew");
    walferry.stop().await;
    scene.command(&["rebuild", "--yes"], 0).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    assert_eq!(scene.statuses().await, "completed 21");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elasticsearch_killed_and_started_again_during_the_load_and_the_stream() {
    let servers = Servers::private_elasticsearch(&[]).await;
    let scene = Scene::witnessed_on("es_killed", servers).await;
    seeded(&scene, 340).await;
    scene.sql("insert into listings (user_id, category_id, title, description, status)
        select (select id from profiles limit 1), (select id from categories limit 1), 'çok ' || n, 'x', 'active'
        from generate_series(1, 3000) n").await;
    let mut walferry = scene.start();
    scene.slot_made().await;
    scene.forget_witnessed().await;
    let settled = "select coalesce(sum(row_count), 0)::bigint from walferry.load";
    let node = &scene.bed.servers.elasticsearch;
    until(RECOVERY_MAX, "the load is under way", async || {
        let sql = "select to_regclass('walferry.load') is not null";
        scene.bed.sql.value::<bool>(sql, &[]).await && scene.number(settled).await > 0
    })
    .await;
    node.kill9().await;
    let writers = Writers::start(&scene, 340);
    let pending = "select count(*) from elasticsearch_sync_queue where status = 'pending'";
    until(RECOVERY_MAX, "changes are captured", async || scene.number(pending).await > 20).await;
    // A node takes long to start where much else runs; its pause would grow the backlog as long.
    writers.stop().await;
    node.start().await;
    let writers = Writers::start(&scene, 341);
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "jobs are done", async || scene.number(completed).await > 20).await;
    node.kill9().await;
    let before = scene.number(pending).await;
    until(RECOVERY_MAX, "more is captured", async || scene.number(pending).await > before + 20)
        .await;
    writers.stop().await;
    node.start().await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("Elasticsearch killed").await;
    assert!(walferry.is_running(), "{}", walferry.output_end());
    walferry.stop().await;
}

/// What the slot may retain before PostgreSQL gives it up.
const KEPT_BYTES_MAX: i64 = 64 << 20;
/// WAL written during the outage.
const OUTAGE_MEBIBYTES: i64 = 1024;
/// Of it, at a time.
const STEP_MEBIBYTES: i64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_any_length_leaves_the_slot_its_wal() {
    let scene = Scene::with_own_postgres("outage", &[("max_slot_wal_keep_size", "64MB")]).await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 100)).await;
    scene
        .sql("create table noise (body text); alter table noise alter body set storage external")
        .await;
    let stage = scene.faults().await;
    let mut walferry = scene.start_through(&stage, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    stage.always("/", Some(Fault::Reset));
    let written = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
    let retained = "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
        from pg_replication_slots where slot_type = 'logical'";
    let start = scene.number(written).await;
    let mut most = 0;
    while scene.number(written).await < start + (OUTAGE_MEBIBYTES << 20) {
        scene
            .sql(&format!(
                "insert into noise select repeat('x', 1 << 20) from generate_series(1, {STEP_MEBIBYTES});
                 update listings set view_count = view_count + 1 where random() < 0.1"
            ))
            .await;
        // The server looks at its limit at checkpoints only.
        until(RECOVERY_MAX, "the slot lets go", async || {
            scene.sql("checkpoint").await;
            scene.number(retained).await < KEPT_BYTES_MAX * 3 / 4
        })
        .await;
        most = most.max(scene.number(retained).await);
    }
    let lost = "select count(*) from pg_replication_slots where wal_status = 'lost'";
    assert_eq!(scene.number(lost).await, 0);
    assert!(most < KEPT_BYTES_MAX, "{most} bytes were retained");
    let pending = "select count(*) from elasticsearch_sync_queue where status = 'pending'";
    let waiting = scene.number(pending).await;
    note(&format!("{waiting} jobs waited, at most {} MiB of WAL was retained", most >> 20));
    assert!(waiting > 100);
    stage.always("/", None);
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("an outage of 1 GB of WAL").await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_shutdown_of_postgres_does_not_wait_for_us() {
    for outage in [false, true] {
        let scene = Scene::with_own_postgres("shutdown", &[]).await;
        seeded(&scene, 360).await;
        let stage = scene.faults().await;
        let mut walferry = scene.start_through(&stage, &[]);
        walferry.wait_ready(RECOVERY_MAX).await;
        scene.forget_witnessed().await;
        if outage {
            stage.always("/_bulk", Some(Fault::Hang));
        }
        let writers = Writers::start(&scene, 360);
        let jobs = "select count(*) from elasticsearch_sync_queue";
        until(RECOVERY_MAX, "jobs are recorded", async || scene.number(jobs).await > 50).await;
        let started = tokio::time::Instant::now();
        scene.bed.servers.postgres.stop(StopMode::Fast).await;
        let took = started.elapsed();
        note(&format!("fast shutdown, Elasticsearch down: {outage}: {took:?}"));
        assert!(took < Duration::from_secs(4), "it took {took:?}");
        scene.bed.servers.postgres.start().await;
        let scene = scene.reconnected().await;
        stage.always("/_bulk", None);
        writers.stop().await;
        scene.settled(RECOVERY_MAX).await;
        scene.assert_true().await;
        assert!(walferry.is_running(), "{}", walferry.output_end());
        walferry.stop().await;
    }
}

/// Not a fault, but near one: an Elasticsearch that knows nothing of us yet, after all indices went.
#[tokio::test]
async fn a_cluster_that_lost_everything_is_not_written_to_silently() {
    let scene = Scene::new("emptied").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    for index in crate::oracle::INDICES {
        scene.bed.elasticsearch.delete_index(&scene.bed.index(&format!("{index}-000001"))).await;
    }
    scene.sql("update profiles set bio = 'x'; delete from categories").await;
    until(RECOVERY_MAX, "it says so", async || status(&walferry, "/readyz").await == Some(503))
        .await;
    let path = format!("/{}*", scene.bed.index_prefix);
    let left = scene.bed.elasticsearch.request(Method::GET, &path, None).await;
    assert_eq!(left, json!({}), "nothing was made anew");
    walferry.stop().await;
    // A restart makes the indices and loads the rows; the jobs follow.
    let mut walferry = scene.ready().await;
    scene.settled(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
}

impl Scene {
    /// With the witness, on these servers.
    pub(super) async fn witnessed_on(name: &str, servers: Servers) -> Scene {
        let scene = Scene::unwitnessed_on(TestBed::on(name, servers).await);
        crate::oracle::install(&scene.bed.sql).await;
        scene
    }

    /// With a new connection, after PostgreSQL was restarted.
    async fn reconnected(mut self) -> Scene {
        self.bed.reconnect().await;
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_others_that_is_red_stops_nothing() {
    let servers = Servers::private_elasticsearch(&[]).await;
    let scene = Scene::unwitnessed_on(TestBed::on("red_of_others", servers).await);
    scene.sql(ROWS).await;
    // No node has this name, so its shard is assigned to none.
    let body = serde_json::json!({
        "settings": { "index.routing.allocation.require._name": "none", "number_of_replicas": 0 }
    });
    let path = "/of_others?wait_for_active_shards=0";
    scene.bed.elasticsearch.request(reqwest::Method::PUT, path, Some(&body)).await;
    let path = "/_cluster/health?filter_path=status";
    let (_, health) =
        scene.bed.elasticsearch.try_request(reqwest::Method::GET, path, None).await.unwrap();
    assert_eq!(health["status"], "red");
    let faults = scene.faults().await;
    let mut walferry = scene.start_through(&faults, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    let (code, test) = walferry.get_json("/api/v1/elasticsearch/test-connection").await;
    assert_eq!((code, test["success"].as_bool()), (200, Some(true)), "{test}");
    // An outage ends although the index is still red.
    faults.script("/_bulk", [Fault::Reset]);
    scene.sql(&listings(1, 3)).await;
    until(RECOVERY_MAX, "they are indexed", async || {
        scene.indices.all("listings").await.len() == 3
    })
    .await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_the_user_may_not_read_closes_its_index_with_the_reason() {
    const UNREADABLE: &str = r#"{"status":403,"error":{"type":"security_exception",
        "reason":"action [indices:data/read/open_point_in_time] is unauthorized"}}"#;
    let scene = Scene::new("unreadable").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 3)).await;
    let faults = scene.faults().await;
    let mut walferry = scene.start_through(&faults, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    let index = scene.bed.index("ai_suggestions");
    let path: &'static str = format!("/{index}-000001/_pit").leak();
    faults.always(path, Some(Fault::Answer(403, UNREADABLE)));
    scene.sql("truncate listings cascade").await;
    until(RECOVERY_MAX, "it is unready", async || status(&walferry, "/readyz").await == Some(503))
        .await;
    let (_, body) = walferry.http_get("/readyz").await.expect("it answers");
    assert!(body.contains(&index) && body.contains("privileges"), "{body}");
    assert!(body.contains("security_exception"), "{body}");
    // To stop meanwhile is not to have listed: the TRUNCATE is unfinished.
    walferry.stop().await;
    let completed = "select count(*) from elasticsearch_sync_queue
        where status = 'completed' and operation = 'TRUNCATE'";
    assert_eq!(scene.number(completed).await, 0, "its documents are still there");
    let mut walferry = scene.start_through(&faults, &[]);
    let unfinished = "select count(*) from elasticsearch_sync_queue where status <> 'completed'";
    walferry.wait_output("index_closed", RECOVERY_MAX).await;
    faults.always(path, None);
    until(RECOVERY_MAX, "it is done", async || scene.number(unfinished).await == 0).await;
    until(RECOVERY_MAX, "it is ready", async || status(&walferry, "/readyz").await == Some(200))
        .await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.assert_no_attempt_lost("a privilege that was missing").await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privilege_that_the_user_lacks_is_named_before_it_is_needed() {
    let scene = Scene::unwitnessed("lacking").await;
    scene.once().await;
    let faults = scene.faults().await;
    let index = scene.bed.index("listings");
    let answer = json!({
        "has_all_requested": false,
        "index": { format!("{index}-*"): { "manage": true, "write": true, "read": false } },
    });
    let fault = Fault::Answer(200, answer.to_string().leak());
    faults.always("/_security/user/_has_privileges", Some(fault));
    let check = scene.bed.walferry(&["check"]).env("ELASTICSEARCH_URL", &faults.url);
    let mut check = check.spawn();
    assert_eq!(check.wait_exit(RECOVERY_MAX).await, 3, "{}", check.output());
    let lacking = format!("the user in Elasticsearch lacks read on {index}-*");
    assert!(check.output().contains(&lacking), "{}", check.output());
    let mut walferry = scene.start_through(&faults, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    walferry.wait_output("privilege_lacking", RECOVERY_MAX).await;
    walferry.stop().await;
}
