//! Operations beside the stream: what was damaged in Elasticsearch is true again after a backfill.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::{RECOVERY_MAX, ROWS, listing, listings};
use crate::scene::{Scene, until};
use crate::support::Walferry;
use crate::support::faults::Fault;

/// Listings of the scene.
const LISTINGS: u32 = 600;
/// Rows of a chunk, so that a backfill has many.
const CHUNK: (&str, &str) = ("WALFERRY_LIMITS_FANOUT_ROWS_MAX", "10");
/// Rows of backfills that have settled.
const SETTLED: &str = "select coalesce(sum(row_count), 0)::bigint from walferry.operation";
const RUNNING: &str = "select count(*) from walferry.operation where state = 'running'";
/// An operator's word takes effect within this time.
const OBEYED_MAX: Duration = Duration::from_secs(10);

async fn begun(name: &str) -> (Scene, Walferry) {
    let scene = Scene::new(name).await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, LISTINGS)).await;
    let mut walferry = scene.start_with(&[CHUNK]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    (scene, walferry)
}

/// Deletes every third document of an index by hand, so that no change of the database says that it
/// is to be indexed again.
async fn thinned(scene: &Scene, index: &str) {
    let index = scene.bed.index(index);
    let elasticsearch = &scene.bed.elasticsearch;
    for id in elasticsearch.all_documents(&index).await.into_keys().step_by(3) {
        let path = format!("/{index}/_doc/{id}");
        elasticsearch.request(Method::DELETE, &path, None).await;
    }
}

/// Writes a document of the listings by hand.
async fn damaged(scene: &Scene, id: &str) {
    let path = format!("/{}/_doc/{id}", scene.bed.index("listings"));
    let body = json!({ "title": "damaged" });
    scene.bed.elasticsearch.request(Method::PUT, &path, Some(&body)).await;
}

async fn state(scene: &Scene, id: i64) -> String {
    scene.bed.sql.value("select state from walferry.operation where id = $1", &[&id]).await
}

async fn settled_rows(scene: &Scene, rows: i64) {
    until(RECOVERY_MAX, "the backfill goes on", async || scene.number(SETTLED).await >= rows).await;
}

/// Changes listings one by one until told to stop: before, behind and at the place of a backfill.
fn writer(scene: &Scene, stop: &CancellationToken) -> JoinHandle<u32> {
    let (database, stop) = (scene.database(), stop.clone());
    tokio::spawn(async move {
        let (sql, connection) = database.connect(tokio_postgres::NoTls).await.expect("a session");
        let connection = tokio::spawn(connection);
        let mut pace = interval(Duration::from_millis(20));
        let mut n = 0;
        while !stop.is_cancelled() {
            pace.tick().await;
            n += 1;
            let id = listing(1 + n * 37 % LISTINGS);
            let change = match n % 6 {
                0 => format!("delete from listings where id = '{id}'"),
                1 => listings(LISTINGS + n, LISTINGS + n),
                2 => format!("update listings set status = 'draft' where id = '{id}'"),
                3 => "update listings set status = 'active' where status = 'draft'".to_owned(),
                _ => format!("update listings set title = 'İlan {n}!' where id = '{id}'"),
            };
            sql.batch_execute(&change).await.expect("a change");
        }
        connection.abort();
        n
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backfill_resumes_beside_changes_and_ends_true() {
    let (scene, mut walferry) = begun("backfill_killed").await;
    thinned(&scene, "listings").await;
    thinned(&scene, "profiles").await;
    scene.command(&["backfill", "--rate", "100", "--detach"], 0).await;
    let stop = CancellationToken::new();
    let writing = writer(&scene, &stop);
    let mut done = 0;
    for _ in 0..2 {
        settled_rows(&scene, done + 100).await;
        walferry.kill9();
        done = scene.number(SETTLED).await;
        assert_eq!(scene.number(RUNNING).await, 1, "the kill came in the middle of a backfill");
        walferry = scene.start_with(&[CHUNK]);
        walferry.wait_ready(RECOVERY_MAX).await;
        assert!(scene.number(SETTLED).await >= done, "it began anew");
    }
    let open = "select count(*) from walferry.operation where state <> 'completed'";
    until(RECOVERY_MAX, "the backfills end", async || scene.number(open).await == 0).await;
    stop.cancel();
    assert!(writing.await.expect("the writer ends") > 100, "too few changes");
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    // Every table that has documents had an operation of its own.
    let output = scene.command(&["operations"], 0).await;
    for table in ["public.listings", "public.profiles", "public.categories"] {
        assert!(output.contains(table), "{output}");
    }
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_paused_resumed_and_cancelled() {
    let (scene, mut walferry) = begun("backfill_steered").await;
    thinned(&scene, "listings").await;
    scene.command(&["backfill", "listings", "--rate", "200", "--detach"], 0).await;
    scene.command(&["backfill", "categories", "--detach"], 0).await;
    settled_rows(&scene, 50).await;
    scene.command(&["pause", "1"], 0).await;
    // The next one begins as soon as the paused one has stopped.
    until(OBEYED_MAX, "the second one ends", async || state(&scene, 2).await == "completed").await;
    let paused = "select row_count from walferry.operation where id = 1";
    let rows = scene.number(paused).await;
    assert!(rows < i64::from(LISTINGS), "{rows} rows before the pause");
    let output = scene.command(&["resume", "2"], 1).await;
    assert!(output.contains("operation 2 is completed"), "{output}");
    scene.command(&["resume", "1"], 0).await;
    settled_rows(&scene, rows + 50).await;
    scene.command(&["cancel", "1"], 0).await;
    scene.command(&["backfill", "categories"], 0).await;
    let cancelled = scene.number(paused).await;
    assert!(cancelled < i64::from(LISTINGS), "{cancelled} rows before the cancellation");
    assert_eq!(state(&scene, 1).await, "cancelled");
    scene.command(&["cancel", "7"], 1).await;
    scene.command(&["backfill", "listings"], 0).await;
    scene.assert_true().await;
    let audit = scene.command(&["audit"], 0).await;
    for action in ["backfill", "pause", "resume", "cancel"] {
        assert!(audit.contains(action), "{audit}");
    }
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_renders_what_the_condition_or_the_keys_name() {
    let (scene, mut walferry) = begun("backfill_chosen").await;
    for n in 77..=79 {
        damaged(&scene, &listing(n)).await;
    }
    let title = async |n: u32| {
        let index = scene.bed.index("listings");
        let document = scene.bed.elasticsearch.document(&index, &listing(n)).await;
        document.map(|found| found["title"].as_str().unwrap_or_default().to_owned())
    };
    let condition = "title like '% 77' -- the seventy-seventh";
    scene.command(&["backfill", "listings", "--where", condition], 0).await;
    assert_eq!(title(77).await.as_deref(), Some("İlan 77"));
    assert_eq!(title(78).await.as_deref(), Some("damaged"));

    // An orphan goes, since its row is not there.
    let orphan = listing(9_999_999);
    damaged(&scene, &orphan).await;
    let file = std::env::temp_dir().join(format!("walferry-keys-{}", std::process::id()));
    let write = |text: &str| std::fs::write(&file, text).expect("the file is written");
    write(&format!("{orphan}\n{}\n", listing(78).to_uppercase()));
    let file = file.to_str().expect("a path of UTF-8");
    scene.command(&["backfill", "listings", "--keys", file], 0).await;
    assert_eq!(title(78).await.as_deref(), Some("İlan 78"));
    assert_eq!(title(9_999_999).await, None);
    assert_eq!(title(79).await.as_deref(), Some("damaged"));

    // What cannot be done is said before anything is queued.
    let before = scene.number("select count(*) from walferry.operation").await;
    let bad = scene.command(&["backfill", "listings", "--where", "no_column = 1"], 2).await;
    assert!(bad.contains("does not take the condition"), "{bad}");
    scene.command(&["backfill", "listings", "--where", "true); select (1"], 2).await;
    scene.command(&["backfill", "no_table"], 2).await;
    write("no-uuid\n");
    scene.command(&["backfill", "listings", "--keys", file], 2).await;
    std::fs::remove_file(file).expect("the file is removed");
    assert_eq!(scene.number("select count(*) from walferry.operation").await, before);

    // A condition that fails while it runs ends the operation, not the run.
    let failing = "1 / (length(title) - length(title)) > 0";
    let output = scene.command(&["backfill", "listings", "--where", failing], 1).await;
    assert!(output.contains("22012"), "{output}");
    let writing = "nextval('public.elasticsearch_sync_queue_id_seq') > 0";
    let output = scene.command(&["backfill", "listings", "--where", writing], 1).await;
    assert!(output.contains("read-only"), "{output}");
    // Nor does it write after it has set its session to do so: the first chunk sets, the second writes.
    let setting = format!(
        "case when id < '{}' then set_config('default_transaction_read_only', 'off', false) = 'off' \
         else {writing} end",
        listing(15)
    );
    let output = scene.command(&["backfill", "listings", "--where", &setting], 1).await;
    assert!(output.contains("read-only"), "{output}");
    let (_, metrics) = walferry.http_get("/metrics").await.expect("walferry answers");
    assert!(metrics.contains("walferry_pipeline_restarts_total{reason=\"fault\"} 0"), "{metrics}");
    scene.command(&["backfill"], 0).await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_document_of_a_backfill_is_a_failed_job() {
    let scene = Scene::new("backfill_refused").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 100)).await;
    let faults = scene.faults().await;
    let mut walferry = scene.start_through(&faults, &[CHUNK]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    let refused =
        Fault::Items(400, "mapper_parsing_exception", &["c0000000-0000-4000-8000-000000000042"]);
    faults.always("/_bulk", Some(refused));
    let output = scene.command(&["backfill", "listings"], 1).await;
    assert!(output.contains("refused the documents of 1 rows"), "{output}");
    faults.always("/_bulk", None);
    thinned(&scene, "listings").await;
    scene.command(&["backfill", "listings"], 0).await;
    scene.command(&["retry", "--all"], 0).await;
    let open = "select count(*) from elasticsearch_sync_queue where status <> 'completed'";
    until(RECOVERY_MAX, "the job completes", async || scene.number(open).await == 0).await;
    let problems = crate::oracle::document_problems(&scene.bed.sql, &scene.indices).await;
    assert_eq!(problems, Vec::<String>::new(), "the indices differ from the tables");
    walferry.stop().await;
}
