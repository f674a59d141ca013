//! Operations beside the stream: what was damaged in Elasticsearch is found by a verification, and is
//! true again after it or after a backfill.

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
fn writer(scene: &Scene, every: Duration, stop: &CancellationToken) -> JoinHandle<u32> {
    let (database, stop) = (scene.database(), stop.clone());
    tokio::spawn(async move {
        let (sql, connection) = database.connect(tokio_postgres::NoTls).await.expect("a session");
        let connection = tokio::spawn(connection);
        let mut pace = interval(every);
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
    let writing = writer(&scene, Duration::from_millis(20), &stop);
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

/// The last line of progress of a verification.
fn verified(output: &str) -> serde_json::Value {
    let mut lines = output.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
    lines.next().unwrap_or_else(|| panic!("no line of JSON: {output}"))
}

/// Plants one difference of each kind, and more orphans; returns how many there are.
async fn planted(scene: &Scene) -> u64 {
    let elasticsearch = &scene.bed.elasticsearch;
    let put = async |index: &str, id: &str| {
        let path = format!("/{}/_doc/{id}", scene.bed.index(index));
        elasticsearch.request(Method::PUT, &path, Some(&json!({ "title": "damaged" }))).await;
    };
    put("listings", &listing(42)).await;
    // No row has this key, no row can have these ids, and no source has this prefix.
    put("listings", &listing(9_999_999)).await;
    put("listings", "no-uuid").await;
    put("listings", &listing(43).to_uppercase()).await;
    put("ai_suggestions", "neither").await;
    let path = format!("/{}/_doc/{}", scene.bed.index("listings"), listing(44));
    elasticsearch.request(Method::DELETE, &path, None).await;
    6
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_finds_and_repairs_what_differs() {
    let (scene, mut walferry) = begun("verify_finds").await;
    scene.command(&["verify"], 0).await;
    let before = planted(&scene).await;
    let output = scene.command(&["verify", "--json"], 4).await;
    assert!(output.contains("6 documents differ") && output.contains("0 of them"), "{output}");
    let of_listings = output.lines().find(|line| line.contains("no-uuid")).expect("its findings");
    let found: serde_json::Value = serde_json::from_str(of_listings).expect("JSON");
    let all = found["findings"].as_array().expect("findings");
    assert_eq!(all.len(), 5, "{found}");
    let of = |id: &str| all.iter().find(|finding| finding["id"] == id).expect(id);
    let stale = of(&listing(42));
    assert_eq!(stale["kind"], "stale");
    assert!(stale["fields"].as_array().is_some_and(|f| f.contains(&json!("title"))), "{stale}");
    assert_eq!(of(&listing(44))["kind"], "missing");
    assert_eq!(of("no-uuid")["kind"], "orphaned");
    assert_eq!(found["differences"]["orphaned"], 3);

    // Only the index, and only a sample.
    let one = verified(&scene.command(&["verify", "ai_suggestions"], 4).await);
    assert_eq!(one["index"], "ai_suggestions");
    let sampled = verified(&scene.command(&["verify", "profiles", "--sample", "1"], 0).await);
    assert_eq!((&sampled["keys"], &sampled["rows"]), (&json!(1), &json!(1)));

    let output = scene.command(&["verify", "--repair"], 4).await;
    assert!(output.contains(&format!("{before} of them are repaired")), "{output}");
    scene.command(&["verify"], 0).await;
    scene.assert_true().await;

    // What cannot be compared is an error, before or in the operation.
    let unknown = scene.command(&["verify", "no_table"], 2).await;
    assert!(unknown.contains("no table and no index") && unknown.contains("profiles"), "{unknown}");
    let close = format!("/{}/_close", scene.bed.index("profiles"));
    scene.bed.elasticsearch.request(Method::POST, &close, None).await;
    let closed = scene.command(&["verify", "profiles"], 1).await;
    assert!(closed.contains("it is closed; open it"), "{closed}");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_beside_changes_finds_only_what_differs() {
    let (scene, mut walferry) = begun("verify_beside").await;
    let stop = CancellationToken::new();
    let writing = writer(&scene, Duration::from_millis(4), &stop);
    for _ in 0..3 {
        let output = scene.command(&["verify", "--json"], 0).await;
        let all = output.lines().filter(|line| line.contains("\"completed\"")).count();
        assert_eq!(all, 3, "{output}");
    }
    // A kill in the middle of a repair costs neither a count nor a repair.
    thinned(&scene, "profiles").await;
    let extra = format!("/{}/_doc/", scene.bed.index("profiles"));
    for n in 0..40 {
        let path = format!("{extra}orphan-{n}");
        let body = json!({ "username": "damaged" });
        scene.bed.elasticsearch.request(Method::PUT, &path, Some(&body)).await;
    }
    let count = "select missing_count + orphan_count from walferry.operation
        where table_name = 'public.profiles' and is_repair";
    scene.command(&["verify", "profiles", "--repair", "--detach"], 0).await;
    until(RECOVERY_MAX, "it finds something", async || scene.number(count).await > 0).await;
    walferry.kill9();
    walferry = scene.start_with(&[CHUNK]);
    walferry.wait_ready(RECOVERY_MAX).await;
    let open = "select count(*) from walferry.operation where state <> 'completed'";
    until(RECOVERY_MAX, "the verification ends", async || scene.number(open).await == 0).await;
    let left = "select missing_count + orphan_count - repaired_count from walferry.operation
        where table_name = 'public.profiles' and is_repair";
    assert_eq!(scene.number(left).await, 0, "something is not repaired");
    assert_eq!(scene.number(count).await, 41, "each is counted once");
    stop.cancel();
    assert!(writing.await.expect("the writer ends") > 500, "too few changes");
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_asked_for_and_steered_by_http() {
    let (scene, mut walferry) = begun("operations_http").await;
    let mut events = reqwest::get(walferry.url("/api/v1/queue/events")).await.expect("a stream");
    events.chunk().await.expect("the first event");
    thinned(&scene, "listings").await;
    let (status, queued) = walferry.post_json("/api/v1/operations/verify", Some(&json!({}))).await;
    assert_eq!((status, &queued["ids"]), (200, &json!([1, 2, 3])), "{queued}");
    let of = async |id: i64| walferry.get_json(&format!("/api/v1/operations/{id}")).await.1;
    until(RECOVERY_MAX, "they end", async || of(3).await["state"] == "completed").await;
    let found = of(1).await;
    assert_eq!(found["differences"]["missing"], 200, "{found}");
    assert_eq!(found["findings"].as_array().map(Vec::len), Some(200));
    let repair = json!({ "name": "listings", "repair": true });
    walferry.post_json("/api/v1/operations/verify", Some(&repair)).await;
    until(RECOVERY_MAX, "it ends", async || of(4).await["state"] == "completed").await;
    assert_eq!(of(4).await["differences"]["repaired"], 200);

    let backfill = json!({ "table": "listings", "where": "true", "rate_max": 50 });
    let (status, queued) = walferry.post_json("/api/v1/operations/backfill", Some(&backfill)).await;
    assert_eq!((status, &queued["ids"]), (200, &json!([5])), "{queued}");
    for what in ["pause", "resume", "cancel"] {
        let (status, body) =
            walferry.post_json(&format!("/api/v1/operations/5/{what}"), Some(&json!({}))).await;
        assert_eq!(status, 200, "{body}");
    }
    let (_, all) = walferry.get_json("/api/v1/operations?limit=2").await;
    assert_eq!(all["operations"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["operations"][0]["state"], "cancelled");

    let refused = async |path: &str, body: serde_json::Value| {
        let (status, body) =
            walferry.post_json(&format!("/api/v1/operations/{path}"), Some(&body)).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    let code = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused("5/resume", json!({})).await, code(409, "operation_state"));
    assert_eq!(refused("9/pause", json!({})).await, code(404, "no_such_operation"));
    let bad = json!({ "table": "listings", "where": "no_column" });
    assert_eq!(refused("backfill", bad).await, code(400, "invalid_request"));
    assert_eq!(refused("verify", json!({ "name": "no" })).await, code(404, "no_such_table"));
    assert_eq!(refused("verify", json!({ "sample": 0 })).await, code(400, "invalid_request"));

    let mut seen = String::new();
    until(RECOVERY_MAX, "the stream has the operations", async || {
        if let Ok(Some(chunk)) = events.chunk().await {
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        seen.contains("event: operations") && seen.contains("\"cancelled\"")
    })
    .await;
    let (_, metrics) = walferry.http_get("/metrics").await.expect("walferry answers");
    let completed = "walferry_operations{kind=\"verify\",state=\"completed\"} 4";
    assert!(metrics.contains(completed), "{metrics}");
    let audit = scene.command(&["audit"], 0).await;
    assert!(audit.contains("verify") && audit.contains("listings, repaired"), "{audit}");
    walferry.stop().await;
}
