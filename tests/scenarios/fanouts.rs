//! Fan-outs in the background: they yield to changes, stop, resume, and end with their documents.

use std::time::Duration;

use tokio::time::{Instant, interval};

use super::{RECOVERY_MAX, ROWS, listing, listings, post};
use crate::scene::{Scene, until};
use crate::support::Walferry;
use crate::support::faults::Fault;

/// Listings of one category.
const LISTINGS: u32 = 2000;
/// Rows of a chunk, so that a fan-out has many.
const CHUNK: (&str, &str) = ("WALFERRY_LIMITS_FANOUT_ROWS_MAX", "10");
/// An operator's `stop` and a SIGTERM take effect within this time.
const STOP_MAX: Duration = Duration::from_secs(2);

const RENAME: &str = "update categories set name = name || '!'";
/// Rows that the fan-outs have rewritten, as stored.
const REWRITTEN: &str = "select coalesce(sum(row_count), 0)::bigint from walferry.fanout";
/// The jobs of the renamed category that are not completed.
const UNFINISHED: &str = "select count(*) from elasticsearch_sync_queue
    where table_name = 'categories' and status <> 'completed'";

async fn begun(name: &str, settings: &[(&str, &str)]) -> (Scene, Walferry) {
    let scene = Scene::new(name).await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, LISTINGS)).await;
    let mut walferry = scene.start_with(settings);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    (scene, walferry)
}

async fn rewritten(scene: &Scene, rows: i64) {
    until(RECOVERY_MAX, "the fan-out goes on", async || scene.number(REWRITTEN).await >= rows)
        .await;
}

/// The value of a metric without labels, or with all of them.
async fn metric(walferry: &Walferry, name: &str) -> f64 {
    let (_, text) = walferry.http_get("/metrics").await.expect("walferry answers");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_pass_a_fan_out_and_are_not_captured() {
    let (scene, mut walferry) = begun("fan_out_yields", &[CHUNK]).await;
    scene.sql(RENAME).await;
    rewritten(&scene, 1).await;
    let begun = Instant::now();
    let mut passed = 0;
    let mut longest = Duration::ZERO;
    let mut pace = interval(Duration::from_millis(100));
    let live = "walferry_pipeline_mode{mode=\"live\"}";
    while scene.number(UNFINISHED).await > 0 {
        pace.tick().await;
        passed += 1;
        scene.sql(&listings(LISTINGS + passed, LISTINGS + passed)).await;
        let began = Instant::now();
        let job = format!(
            "select count(*) from elasticsearch_sync_queue
             where status = 'completed' and record_id = '{}'",
            listing(LISTINGS + passed)
        );
        until(RECOVERY_MAX, "the change passes", async || scene.number(&job).await == 1).await;
        longest = longest.max(began.elapsed());
        assert!(metric(&walferry, live).await > 0.0, "the pipeline is not live");
    }
    assert!(passed > 5, "{passed} changes passed the fan-out");
    // Relative to the fan-out, since both slow down on a busy machine.
    let took = begun.elapsed();
    assert!(longest < took / 4, "a change waited for {longest:?} of {took:?}");
    let rows = metric(&walferry, "walferry_fanout_rows_total").await;
    assert!(rows >= f64::from(LISTINGS), "{rows} rows");
    assert!(metric(&walferry, "walferry_fanouts").await < 1.0, "the fan-out has ended");
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_effect_in_the_middle_of_a_fan_out() {
    let (scene, mut walferry) = begun("fan_out_stops", &[CHUNK]).await;
    scene.sql(RENAME).await;
    rewritten(&scene, 300).await;
    let (code, body) = post(&walferry, "stop").await;
    assert_eq!(code, 200, "{body}");
    let stopped = Instant::now() + STOP_MAX;
    let mut looks = interval(Duration::from_millis(20));
    while Instant::now() < stopped {
        looks.tick().await;
    }
    let rows = scene.number(REWRITTEN).await;
    let watched = Instant::now() + STOP_MAX;
    while Instant::now() < watched {
        looks.tick().await;
        assert_eq!(scene.number(REWRITTEN).await, rows, "it goes on although indexing is stopped");
    }
    assert!(rows < i64::from(LISTINGS), "{rows} rows were rewritten before the stop");
    assert_eq!(scene.number(UNFINISHED).await, 1, "its job is not finished");
    let (code, body) = post(&walferry, "start").await;
    assert_eq!(code, 200, "{body}");
    rewritten(&scene, rows + 100).await;
    let asked = Instant::now();
    walferry.stop().await;
    assert!(asked.elapsed() < STOP_MAX, "SIGTERM took {:?}", asked.elapsed());
    assert_eq!(scene.number(UNFINISHED).await, 1, "its job is not finished");
    let mut walferry = scene.start_with(&[CHUNK]);
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_fan_out_resumes_where_it_was() {
    let (scene, mut walferry) = begun("fan_out_killed", &[CHUNK]).await;
    scene.sql(RENAME).await;
    let mut done = 0;
    for _ in 0..2 {
        rewritten(&scene, done + 400).await;
        walferry.kill9();
        done = scene.number(REWRITTEN).await;
        assert!(done < i64::from(LISTINGS), "{done} rows were rewritten before the kill");
        walferry = scene.start_with(&[CHUNK]);
        walferry.wait_ready(RECOVERY_MAX).await;
        assert!(scene.number(REWRITTEN).await >= done, "it began anew");
    }
    scene.settled(RECOVERY_MAX).await;
    let rows = metric(&walferry, "walferry_fanout_rows_total").await;
    let rest = f64::from(LISTINGS) - f64::from(i32::try_from(done).expect("a small number"));
    assert!(rows <= rest, "the last process rewrote {rows} rows of {rest}");
    let retried = "select count(*) from elasticsearch_sync_queue where retry_count > 0";
    assert_eq!(scene.number(retried).await, 0, "a kill costs no attempt");
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_in_the_middle_of_a_fan_out_stays_true() {
    let (scene, mut walferry) = begun("fan_out_beside", &[CHUNK]).await;
    scene
        .sql(
            "insert into categories (id, name, slug) values
              ('b0000000-0000-4000-8000-000000000002', 'Ev', 'ev')",
        )
        .await;
    scene.sql("update categories set name = 'Elektronik!' where slug = 'elektronik'").await;
    rewritten(&scene, 500).await;
    // Deleted ahead of the fan-out, behind it, and where it is.
    scene.sql("delete from listings where right(id::text, 1) = '3'").await;
    scene
        .sql(
            "update listings set category_id = 'b0000000-0000-4000-8000-000000000002'
              where right(id::text, 1) = '5'",
        )
        .await;
    scene.sql("update listings set title = title || '?' where right(id::text, 1) = '7'").await;
    scene.sql("update listings set status = 'draft' where right(id::text, 1) = '9'").await;
    scene.sql(&listings(LISTINGS + 1, LISTINGS + 20)).await;
    for n in 1..=5 {
        scene
            .sql(&format!(
                "update categories set name = 'Elektronik {n}' where slug = 'elektronik'"
            ))
            .await;
    }
    // A category below another shows it in its path.
    scene
        .sql(
            "update categories set parent_id = 'b0000000-0000-4000-8000-000000000002'
              where slug = 'elektronik'",
        )
        .await;
    scene.sql("update categories set name = 'Ev ve bahçe' where slug = 'ev'").await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.sql("update categories set name = name || '.'").await;
    rewritten(&scene, 100).await;
    scene.sql("truncate listings").await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    assert_eq!(scene.number("select count(*) from walferry.fanout").await, 0);
    assert_eq!(scene.number("select count(*) from walferry.fanout_job").await, 0);
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_row_share_a_pass() {
    let (scene, mut walferry) = begun("fan_out_shared", &[CHUNK]).await;
    scene.sql(RENAME).await;
    rewritten(&scene, 100).await;
    let held = r#"walferry_memory_held_bytes{part="fanouts"}"#;
    assert!(metric(&walferry, held).await > 0.0, "a fan-out is counted");
    for _ in 0..20 {
        scene.sql(RENAME).await;
    }
    let first = "select count(*) from walferry.fanout where row_count > 0";
    assert_eq!(scene.number(first).await, 1, "the first fan-out is over already");
    scene.settled(RECOVERY_MAX).await;
    let rows = metric(&walferry, "walferry_fanout_rows_total").await;
    assert!(rows <= 3.0 * f64::from(LISTINGS), "{rows} rows for 21 changes of one category");
    assert!(metric(&walferry, held).await < 1.0, "nothing of it is left");
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_document_of_a_fan_out_fails_its_job() {
    let scene = Scene::new("fan_out_refused").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 100)).await;
    let faults = scene.faults().await;
    let settings = [CHUNK, ("WALFERRY_QUEUE_ATTEMPTS_MAX", "1")];
    let mut walferry = scene.start_through(&faults, &settings);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    let refused =
        Fault::Items(400, "mapper_parsing_exception", &["c0000000-0000-4000-8000-000000000042"]);
    faults.always("/_bulk", Some(refused));
    scene.sql(RENAME).await;
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    until(RECOVERY_MAX, "the job fails", async || scene.number(failed).await == 1).await;
    let error: String = scene
        .bed
        .sql
        .value("select error_message from elasticsearch_sync_queue where status = 'failed'", &[])
        .await;
    assert!(error.contains(&listing(42)), "{error}");
    faults.always("/_bulk", None);
    scene.command(&["retry", "--all"], 0).await;
    until(RECOVERY_MAX, "the job is done", async || scene.number(UNFINISHED).await == 0).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
}
