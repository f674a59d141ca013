//! Faults of a document: its own job alone pays, with its attempts.

use reqwest::Method;
use serde_json::json;

use super::{RECOVERY_MAX, ROWS, listing, listings, mode_is_live, post};
use crate::scene::{Scene, until};
use crate::support::launcher::new_file;
use crate::support::{Servers, TestBed};

/// A file of the built-in definition, but with a mapping that refuses cities.
fn refusing_cities() -> String {
    let built_in = include_str!("../../src/engine/document/default.toml");
    let strict = built_in.replacen(
        "city = { type = \"keyword\", ignore_above = 8191 }",
        "city = { type = \"date\", ignore_malformed = false }",
        1,
    );
    assert_ne!(strict, built_in, "the mapping of cities is there");
    new_file("walferry.toml", &strict)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_unmappable_document_among_five_thousand_fails_alone_and_can_be_mended() {
    let scene = Scene::new("unmappable").await;
    scene.sql(ROWS).await;
    let file = refusing_cities();
    let settings =
        [("WALFERRY_CONFIG", file.as_str()), ("WALFERRY_QUEUE_RETRY_DELAY_MIN", "200ms")];
    let mut walferry = scene.start_with(&settings);
    walferry.wait_ready(RECOVERY_MAX).await;
    // A row that the load reads too has a failed job of the load.
    let loaded = "select count(*) from walferry.load where done_at is not null";
    until(RECOVERY_MAX, "the load is done", async || scene.number(loaded).await == 3).await;
    scene.forget_witnessed().await;
    let one = listing(2500);
    scene
        .sql(&format!(
            "begin; {}; {};
             insert into listings (id, user_id, category_id, title, description, status, city)
             values ('{one}', 'a0000000-0000-4000-8000-000000000001',
                     'b0000000-0000-4000-8000-000000000001', 'İlan 2500', 'açıklama', 'active', 'Ankara');
             update listings set title = 'İlan 2500, yeni' where id = '{one}'; commit",
            listings(1, 2499),
            listings(2501, 5000)
        ))
        .await;
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    // Both changes of the one listing have a document that is refused, in one batch or in two.
    until(RECOVERY_MAX, "its attempts are used up", async || scene.number(failed).await == 2).await;
    assert_eq!(scene.statuses().await, "completed 4999, failed 2");
    let neighbours = "select count(*) from elasticsearch_sync_queue
        where status = 'completed' and (retry_count <> 0 or error_message is not null)";
    assert_eq!(scene.number(neighbours).await, 0, "no neighbour has paid");
    let failed = "select min(error_message) from elasticsearch_sync_queue
        where status = 'failed' and retry_count = 3";
    let error: String = scene.bed.sql.value(failed, &[]).await;
    let named = format!("{}/{one}: document_parsing_exception", scene.bed.index("listings"));
    assert!(error.starts_with(&named), "{error}");
    assert!(!error.contains("Ankara"), "no row value in an error: {error}");

    // Nothing is lost meanwhile, and a person mends the mapping and says so.
    let mapping = json!({ "properties": { "city": { "type": "date", "ignore_malformed": true } } });
    let index = format!("/{}/_mapping", scene.bed.index("listings-000001"));
    scene.bed.elasticsearch.request(Method::PUT, &index, Some(&mapping)).await;
    let jobs = scene.command(&["jobs", "--status", "failed", "--json"], 0).await;
    assert!(jobs.contains(&one) && jobs.contains("document_parsing_exception"), "{jobs}");
    let asked = ["retry", "--error", "PARSING", "--dry-run"];
    assert!(scene.command(&asked, 0).await.contains("2 failed jobs would be retried"));
    assert_eq!(scene.statuses().await, "completed 4999, failed 2", "a dry run changes nothing");
    let done = scene.command(&["retry", "--error", "PARSING", "--table", "listings"], 0).await;
    assert!(done.contains("2 failed jobs are pending again"), "{done}");
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_document_of_the_first_load_is_a_failed_job() {
    let scene = Scene::unwitnessed("load_refused").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 1200)).await;
    let one = listing(900);
    scene.sql(&format!("update listings set city = 'Ankara' where id = '{one}'")).await;
    let file = refusing_cities();
    let mut walferry = scene.start_with(&[("WALFERRY_CONFIG", file.as_str())]);
    walferry.wait_ready(RECOVERY_MAX).await;
    let loaded = "select count(*) from walferry.load where done_at is not null";
    until(RECOVERY_MAX, "all is loaded", async || scene.number(loaded).await == 3).await;
    // What a chunk refuses is durable with its progress.
    assert_eq!(scene.statuses().await, "failed 1");
    let job = "select concat_ws(' ', table_name, operation, record_id, change_data ->> 'id',
        retry_count, error_message) from elasticsearch_sync_queue";
    let job: String = scene.bed.sql.value(job, &[]).await;
    let index = scene.bed.index("listings");
    let named = format!("listings INSERT {one} {one} 1 {index}/{one}: document_parsing_exception");
    assert!(job.starts_with(&named), "{job}");
    assert!(!job.contains("Ankara"), "no row value in an error: {job}");
    let figures = "select failed_jobs from get_elasticsearch_queue_stats()";
    assert_eq!(scene.number(figures).await, 1, "the counts have it");
    let jobs = scene.command(&["jobs", "--status", "failed"], 0).await;
    assert!(jobs.contains(&one), "{jobs}");
    let found = scene.bed.elasticsearch.document(&index, &one).await;
    assert_eq!(found, None, "it was refused");

    let mapping = json!({ "properties": { "city": { "type": "date", "ignore_malformed": true } } });
    let path = format!("/{}/_mapping", scene.bed.index("listings-000001"));
    scene.bed.elasticsearch.request(Method::PUT, &path, Some(&mapping)).await;
    let done = scene.command(&["retry", "--all"], 0).await;
    assert!(done.contains("1 failed job"), "{done}");
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "it is indexed", async || scene.number(completed).await == 1).await;
    let found = scene.bed.elasticsearch.document(&index, &one).await;
    assert_eq!(found.expect("the listing is there")["title"], "İlan 900");
    assert_eq!(scene.number(figures).await, 0);
    walferry.stop().await;
    // The load is not done again, nor is its refusal.
    scene.once().await;
    assert_eq!(scene.statuses().await, "completed 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_a_forgotten_delete_revives_nothing() {
    let servers = Servers::private_elasticsearch(&[]).await;
    let scene = Scene::unwitnessed_on(TestBed::on("forgotten", servers).await);
    scene.sql(ROWS).await;
    let file = refusing_cities();
    let settings = [
        ("WALFERRY_CONFIG", file.as_str()),
        ("WALFERRY_QUEUE_RETRY_DELAY_MIN", "1h"),
        ("WALFERRY_QUEUE_RETRY_DELAY_MAX", "1h"),
    ];
    let mut walferry = scene.start_with(&settings);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.sql(&listings(1, 3)).await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "they are indexed", async || scene.number(completed).await == 3).await;
    // Refused, so this job waits for an hour ...
    scene.sql(&format!("update listings set city = 'İzmir' where id = '{}'", listing(2))).await;
    let waiting = "select count(*) from elasticsearch_sync_queue where next_attempt_at > now()";
    until(RECOVERY_MAX, "it waits", async || scene.number(waiting).await == 1).await;
    // ... while the listing is deleted, and Elasticsearch forgets that in a restart.
    scene.sql(&format!("delete from listings where id = '{}'", listing(2))).await;
    until(RECOVERY_MAX, "the delete is done", async || scene.number(completed).await == 4).await;
    scene.restart_without_tombstones().await;
    scene
        .sql("update elasticsearch_sync_queue set next_attempt_at = now() where status = 'pending'")
        .await;
    until(RECOVERY_MAX, "the retry is done", async || scene.number(completed).await == 5).await;
    for (index, id) in
        [("listings", listing(2)), ("ai_suggestions", format!("listing:{}", listing(2)))]
    {
        let found = scene.bed.elasticsearch.document(&scene.bed.index(index), &id).await;
        assert_eq!(found, None, "{index}/{id} has come back");
    }
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_beyond_the_parser_index_at_the_second_attempt() {
    let scene = Scene::unwitnessed("beyond").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 3)).await;
    let beyond = |n: u32, value: &str| {
        format!("update listings set attributes = {value} where id = '{}'", listing(n))
    };
    scene.sql(&beyond(1, "'{\"big\": 1e2000}'")).await;
    let settings = [("WALFERRY_QUEUE_RETRY_DELAY_MIN", "100ms")];
    let mut walferry = scene.start_with(&settings);
    walferry.wait_ready(RECOVERY_MAX).await;
    // One in the first load, two on the stream.
    scene.sql(&beyond(2, "'{\"big\": 1e2000}'")).await;
    scene.sql(&beyond(3, "(repeat('[', 1500) || repeat(']', 1500))::jsonb")).await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "both are indexed", async || scene.number(completed).await == 2).await;
    let index = scene.bed.index("listings");
    assert_eq!(scene.bed.elasticsearch.count(&index).await, 3);
    for n in [1, 2] {
        let found = scene.bed.elasticsearch.document(&index, &listing(n)).await;
        let attributes = found.expect("the listing is there")["attributes"]["big"].clone();
        let digits = attributes.as_str().expect("a string of its digits");
        assert_eq!(digits.len(), 2001, "listing {n}");
    }
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_with_a_refused_document_fails_its_cause_and_names_the_document() {
    let scene = Scene::new("fan_out").await;
    scene.sql(ROWS).await;
    let file = refusing_cities();
    let settings =
        [("WALFERRY_CONFIG", file.as_str()), ("WALFERRY_QUEUE_RETRY_DELAY_MIN", "100ms")];
    scene.sql(&listings(1, 30)).await;
    scene.sql(&format!("update listings set city = 'Van' where id = '{}'", listing(9))).await;
    let mut walferry = scene.start_with(&settings);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    let of_load = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    until(RECOVERY_MAX, "the load has failed it", async || scene.number(of_load).await == 1).await;
    scene.command(&["discard", "--all", "--reason", "mended below"], 0).await;
    scene.sql("update profiles set full_name = 'Ayşe Yeni'").await;
    let end = "select count(*) from elasticsearch_sync_queue
        where status = 'failed' and retry_count = 3";
    until(RECOVERY_MAX, "the cause fails", async || scene.number(end).await == 1).await;
    let error: String =
        scene.bed.sql.value("select error_message from elasticsearch_sync_queue", &[]).await;
    assert!(error.contains(&listing(9)), "{error}");
    let listing =
        scene.bed.elasticsearch.document(&scene.bed.index("listings"), &listing(10)).await;
    let name = listing.expect("its neighbour is there")["seller"]["full_name"].clone();
    assert_eq!(name, "Ayşe Yeni", "all others were rewritten");
    // Out of the way of what is wrong, the legacy button does it.
    scene.sql("update listings set city = null").await;
    let (code, body) = post(&walferry, "retry-failed").await;
    assert_eq!((code, body["retried"].as_u64()), (200, Some(1)), "{body}");
    assert_eq!(body["success"], true);
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test]
async fn jobs_that_nobody_can_find_are_said_so() {
    let scene = Scene::new("unknown_job").await;
    scene.once().await;
    let said = scene.command(&["retry", "--id", "4711"], 1).await;
    assert!(said.contains("there is no job 4711"), "{said}");
    scene.sql(ROWS).await;
    scene.once().await;
    let id = scene.number("select max(id) from elasticsearch_sync_queue").await.to_string();
    let said = scene.command(&["retry", "--id", &id], 1).await;
    assert!(said.contains("is completed; only failed jobs can be retried"), "{said}");
    let said = scene.command(&["retry"], 2).await;
    assert!(said.contains("--all"), "{said}");
    let said = scene.command(&["job", "4711"], 1).await;
    assert!(said.contains("there is no job 4711"), "{said}");
    let said = scene.command(&["jobs", "--status", "done"], 2).await;
    assert!(said.contains("pending, processing, completed, failed, stuck"), "{said}");
    assert!(scene.command(&["jobs", "--status", "stuck"], 0).await.contains("no jobs"));
    let said = scene.command(&["discard", "--all", "--reason", " x "], 2).await;
    assert!(said.contains("3 to 500 characters"), "{said}");
    assert!(scene.command(&["jobs", "--table", "profiles"], 0).await.contains("INSERT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_a_change_leaves_as_it_is_is_not_sent_again() {
    let scene = Scene::new("unchanged").await;
    scene.sql(ROWS).await;
    scene.once().await;
    scene.forget_witnessed().await;
    let mut walferry = scene.ready().await;
    mode_is_live(&walferry).await;
    // Up to this distance from its start, documents may have been rendered from rows that were read.
    let write = "select pg_logical_emit_message(false, 'walferry_test', repeat('x', 1000000))
        from generate_series(1, 5)";
    scene.sql(write).await;
    scene.sql(&listings(1, 1)).await;
    scene.settled(RECOVERY_MAX).await;
    let (shown, suggested) = (scene.bed.index("listings"), scene.bed.index("ai_suggestions"));
    let (id, suggestion) = (listing(1), format!("listing:{}", listing(1)));
    let versions = async || {
        let elasticsearch = &scene.bed.elasticsearch;
        let shown = elasticsearch.version(&shown, &id).await.expect("there is a listing");
        (shown, elasticsearch.version(&suggested, &suggestion).await.expect("and its suggestion"))
    };
    let first = versions().await;

    // The suggestion does not show how often a listing was viewed.
    scene.sql("update listings set view_count = view_count + 1").await;
    scene.settled(RECOVERY_MAX).await;
    let viewed = versions().await;
    assert!(viewed.0 > first.0 && viewed.1 == first.1, "{first:?} -> {viewed:?}");
    scene.sql("update listings set title = 'İlan 1, yeni', view_count = 7").await;
    scene.settled(RECOVERY_MAX).await;
    let titled = versions().await;
    assert!(titled.0 > viewed.0 && titled.1 > viewed.1, "{viewed:?} -> {titled:?}");
    // In one transaction with a change that is shown, the last row counts.
    scene
        .sql(
            "begin; update listings set title = 'İlan 1, en yeni';
             update listings set view_count = 8; commit",
        )
        .await;
    scene.settled(RECOVERY_MAX).await;
    assert!(versions().await.1 > titled.1);
    scene.assert_true().await;

    // Another process does not know what was indexed, and what was deleted is not there.
    walferry.stop().await;
    let mut walferry = scene.ready().await;
    mode_is_live(&walferry).await;
    let before = versions().await;
    scene.sql("update listings set view_count = 9").await;
    scene.settled(RECOVERY_MAX).await;
    assert!(versions().await.1 > before.1);
    scene.sql("begin; update listings set status = 'sold'; commit").await;
    scene.sql("update listings set status = 'active'").await;
    scene.sql("update listings set view_count = 10").await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}
