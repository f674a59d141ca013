//! What people do to the queue, by SQL and by the old buttons: noticed, processed, never lost.

use std::time::Duration;

use super::{RECOVERY_MAX, ROWS, Writers, listing, listings, post, seeded};
use crate::scene::{Scene, get, until};
use crate::support::faults::Fault;

/// Not those of before all time, which the clean-up of old days takes.
const DATED: &str = "select count(*) from elasticsearch_sync_queue where isfinite(created_at)";

#[tokio::test(flavor = "multi_thread")]
async fn pending_rows_of_others_are_processed() {
    let scene = Scene::new("foreign").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    scene.sql(&listings(1, 5)).await;
    scene.settled(RECOVERY_MAX).await;
    // Somebody tampers with documents and asks for the rows again, in every way that comes to mind.
    let index = scene.bed.index("listings-000001");
    for n in [1, 2, 3, 4] {
        let path = format!("/{index}/_doc/{}", listing(n));
        scene.bed.elasticsearch.request(reqwest::Method::DELETE, &path, None).await;
    }
    let (one, two, three, four) = (listing(1), listing(2), listing(3), listing(4));
    scene
        .sql(&format!(
            "update elasticsearch_sync_queue set status = 'pending' where record_id = '{one}';
             insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data)
             select 'listings', 'UPDATE', id, jsonb_build_object('old', to_jsonb(l), 'new', to_jsonb(l))
             from listings l where id = '{two}';
             insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data) values
                ('listings', 'INSERT', '{three}', '\"nonsense\"'),
                ('listings', 'SING', '{four}', '{{\"new\": 7}}'),
                ('listings', 'DELETE', 'c0000000-0000-4000-8000-00000000dead', '{{}}'),
                ('bicycles', 'INSERT', '{one}', '{{}}');
             insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data, commit_lsn, ordinal)
             values ('profiles', 'UPDATE', 'a0000000-0000-4000-8000-000000000001', 'null', 'FFFFFFFF/FFFFFFF0', 9),
                ('listings', 'UPDATE', '{one}', '{{}}', '0/10', null);
             insert into elasticsearch_sync_queue
                (table_name, operation, record_id, change_data, created_at, retry_count)
             values ('listings', 'UPDATE', '{two}', '{{}}', 'infinity', 2147483647),
                ('listings', 'UPDATE', '{two}', '{{}}', '-infinity', -2147483648);"
        ))
        .await;
    let open =
        "select count(*) from elasticsearch_sync_queue where status in ('pending', 'processing')";
    until(RECOVERY_MAX, "all are done", async || scene.number(open).await == 0).await;
    assert_eq!(scene.statuses().await, "completed 13, failed 1");
    let error: String = scene
        .bed
        .sql
        .value("select error_message from elasticsearch_sync_queue where status = 'failed'", &[])
        .await;
    assert!(error.contains("table bicycles is not in the definition"), "{error}");
    scene.documents_become_true(RECOVERY_MAX).await;
    // Life goes on behind a row with an impossible position, also after a restart.
    scene.sql("update listings set price = 3").await;
    walferry.stop().await;
    let mut walferry = scene.ready().await;
    scene.sql("update listings set price = 4").await;
    until(RECOVERY_MAX, "all are done", async || {
        scene.number(open).await == 0 && scene.number(DATED).await == 22
    })
    .await;
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_place_wait_untouched_for_a_long_transaction_and_retries_do_not() {
    const FOREIGN: u32 = 3000;
    let scene = Scene::unwitnessed("unplaced").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.sql(&listings(1, FOREIGN)).await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "they are indexed", async || {
        scene.number(completed).await == i64::from(FOREIGN)
    })
    .await;
    let long = scene.bed.connect().await;
    long.run("begin; select pg_current_xact_id()").await;
    scene
        .sql(
            "insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data)
             select 'listings', 'UPDATE', id, '{}' from listings",
        )
        .await;
    let writer =
        "select distinct xmin::text from elasticsearch_sync_queue where commit_lsn is null";
    let written: String = scene.bed.sql.value(writer, &[]).await;
    // Each round is a look at the queue that works on what has a place.
    let retry = format!(
        "update elasticsearch_sync_queue set status = 'pending'
         where record_id = '{}' and commit_lsn is not null",
        listing(1)
    );
    for round in 1..=3 {
        scene.sql(&retry).await;
        until(RECOVERY_MAX, "a retry is done meanwhile", async || {
            scene.number(completed).await == i64::from(FOREIGN)
        })
        .await;
        let untouched = "select count(*) from elasticsearch_sync_queue
            where status = 'pending' and commit_lsn is null and xmin::text = $1";
        let untouched: i64 = scene.bed.sql.value(untouched, &[&written]).await;
        assert_eq!(untouched, i64::from(FOREIGN), "round {round}");
    }
    assert!(walferry.output().contains("unplaced_jobs_wait"));
    long.run("commit").await;
    until(RECOVERY_MAX, "all are done", async || {
        scene.number(completed).await == 2 * i64::from(FOREIGN)
    })
    .await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn due_jobs_of_a_killed_process_are_done_by_the_next() {
    let scene = Scene::new("due_killed").await;
    let faults = scene.faults().await;
    scene.sql(ROWS).await;
    let mut walferry = scene.start_through(&faults, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.sql(&listings(1, 40)).await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "they are indexed", async || scene.number(completed).await == 40).await;
    // Claimed and never settled: the bulk hangs. Half of them have a place, half have none.
    faults.always("/_bulk", Some(Fault::Hang));
    let index = scene.bed.index("listings-000001");
    for n in [1, 40] {
        let path = format!("/{index}/_doc/{}", listing(n));
        scene.bed.elasticsearch.request(reqwest::Method::DELETE, &path, None).await;
    }
    scene
        .sql(
            "update elasticsearch_sync_queue set status = 'pending';
             insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data)
             select 'listings', 'UPDATE', id, '{}' from listings",
        )
        .await;
    let processing = "select count(*) from elasticsearch_sync_queue where status = 'processing'";
    until(RECOVERY_MAX, "all are claimed", async || scene.number(processing).await == 80).await;
    walferry.kill9();
    assert_eq!(scene.number(processing).await, 80);
    faults.always("/_bulk", None);
    let mut walferry = scene.start_through(&faults, &[]);
    until(RECOVERY_MAX, "all are done", async || scene.number(completed).await == 80).await;
    scene.assert_no_attempt_lost("a kill").await;
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_rows_of_others_come_to_their_end() {
    let scene = Scene::new("stuck").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.sql(&listings(1, 8)).await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "they are indexed", async || scene.number(completed).await == 8).await;
    scene
        .sql(
            "update elasticsearch_sync_queue set status = 'processing', retry_count = 3 where id % 8 = 0;
             update elasticsearch_sync_queue set status = 'processing', created_at = created_at - interval '1 minute',
                    started_at = null, epoch = null where id % 8 > 0",
        )
        .await;
    let (code, body) = post(&walferry, "retry-failed").await;
    assert_eq!((code, body["retried"].as_u64()), (200, Some(1)), "the exhausted one: {body}");
    assert!(body["message"].as_str().is_some_and(|said| said.contains("8 stuck")), "{body}");
    until(RECOVERY_MAX, "all are done", async || scene.number(completed).await == 8).await;
    assert!(walferry.output().contains("CRITICAL: 8 stuck jobs detected"));
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_halts_indexing_but_not_capture_and_survives_a_restart() {
    let scene = Scene::new("halted").await;
    seeded(&scene, 400).await;
    let mut walferry = scene.ready().await;
    scene.forget_witnessed().await;
    let writers = Writers::start(&scene, 400);
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "jobs are done", async || scene.number(completed).await > 20).await;
    let (code, body) = post(&walferry, "stop").await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(body["message"], "Queue processor stopped");
    let pending = "select count(*) from elasticsearch_sync_queue where status = 'pending'";
    let processing = "select count(*) from elasticsearch_sync_queue where status = 'processing'";
    until(RECOVERY_MAX, "what was in flight is done and more is captured", async || {
        scene.number(processing).await == 0 && scene.number(pending).await > 50
    })
    .await;
    let (code, body) = get(&walferry, "/readyz").await;
    assert!(code == 503 && format!("{body:?}").contains("stopped by an operator"), "{body:?}");
    let done = scene.number(completed).await;
    walferry.kill9();
    let mut walferry = scene.start();
    let before = scene.number(pending).await;
    until(RECOVERY_MAX, "a new process captures", async || {
        scene.number(pending).await > before + 50
    })
    .await;
    assert_eq!(scene.number(completed).await, done, "the choice holds in the new process");
    let (code, body) = post(&walferry, "clear").await;
    assert_eq!((code, body["success"].as_bool()), (200, Some(true)), "{body}");
    assert_eq!(body["cleared"].as_i64(), Some(done));
    assert!(body["message"].as_str().is_some_and(|said| said.contains("unfinished")), "{body}");
    let (code, body) = post(&walferry, "start").await;
    assert_eq!((code, body["message"].as_str()), (200, Some("Queue processor started")), "{body}");
    writers.stop().await;
    let open = "select count(*) from elasticsearch_sync_queue where status <> 'completed'";
    until(RECOVERY_MAX, "all are done", async || scene.number(open).await == 0).await;
    scene.documents_become_true(Duration::from_secs(10)).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_does_not_wait_for_indexing_that_is_stopped() {
    let scene = Scene::new("once_stopped").await;
    scene.sql(ROWS).await;
    scene.once().await;
    scene.forget_witnessed().await;
    scene.command(&["stop"], 0).await;
    scene.sql(&listings(1, 3)).await;
    let output = scene.command(&["run", "--once"], 3).await;
    assert!(output.contains("`walferry start`"), "{output}");
    scene.command(&["start"], 0).await;
    scene.once().await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
}
