//! What would be wrong and silent: a gap in the stream, a document that never fits, a row that
//! comes after those that show it, an idle service that is gone.

use std::time::Duration;

use super::{RECOVERY_MAX, ROWS, listings};
use crate::scene::{Scene, status, until};
use crate::support::{Servers, TestBed};

/// How long a refusal may take.
const REFUSAL_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_comes_after_those_that_show_it_is_shown() {
    // So does pg_restore --disable-triggers, and a logical subscriber.
    let unguarded =
        |rows: &str| format!("begin; set local session_replication_role = replica; {rows}; commit");
    let scene = Scene::new("late_parent").await;
    let mut walferry = scene.ready().await;
    scene.sql(&unguarded(&listings(1, 2))).await;
    until(RECOVERY_MAX, "the listings are there", async || {
        scene.indices.all("listings").await.len() == 2
    })
    .await;
    scene.sql(&unguarded(ROWS.trim_end_matches(';'))).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_deleted_and_inserted_again_in_one_transaction_is_shown() {
    let scene = Scene::new("reborn").await;
    scene
        .sql(
            "alter table listings drop constraint listings_category_id_fkey,
             add foreign key (category_id) references categories deferrable",
        )
        .await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 1)).await;
    // A batch ends between the two, as it does in a large transaction.
    let mut walferry = scene.start_with(&[("WALFERRY_LIMITS_BATCH_CHANGES_MAX", "1")]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.sql("update listings set title = 'x'").await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene
        .sql(
            "begin; set constraints all deferred; delete from categories;
             insert into categories (id, name, slug)
             values ('b0000000-0000-4000-8000-000000000001', 'Yeni', 'yeni'); commit",
        )
        .await;
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
}

/// With one prefix, two databases of a cluster would write into the same indices.
#[tokio::test(flavor = "multi_thread")]
async fn the_indices_of_another_database_are_refused() {
    let scene = Scene::new("first_app").await;
    scene.ready().await.stop().await;
    let other = Scene::new("second_app").await;
    let mut walferry = other.start_with(&[("WALFERRY_INDEX_PREFIX", &scene.bed.index_prefix)]);
    assert_eq!(walferry.wait_exit(REFUSAL_MAX).await, 3, "{}", walferry.output_end());
    let said = format!("is that of database {} and slot {}", scene.bed.database, scene.bed.slot);
    assert!(walferry.output().contains(&said), "{}", walferry.output_end());
    assert!(walferry.output().contains("WALFERRY_INDEX_PREFIX"), "{}", walferry.output_end());
    scene.ready().await.stop().await;
}

/// The key of a table is read at the start of a run; what is altered later is noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_altered_while_running_is_noticed() {
    let scene = Scene::new("altered").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    let drop = "alter table listings drop constraint listings_pkey cascade";
    let deferrable = "add constraint listings_pkey primary key (id) deferrable";
    scene.sql(&format!("{drop}, {deferrable}")).await;
    walferry
        .wait_output("replica identity of table public.listings was altered", REFUSAL_MAX)
        .await;
    scene.sql(&listings(1, 3)).await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    // Without a key it refuses, as at a start.
    scene.sql(drop).await;
    assert_eq!(walferry.wait_exit(REFUSAL_MAX).await, 3, "{}", walferry.output_end());
    assert!(walferry.output().contains("has no primary key"), "{}", walferry.output_end());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_away_is_no_silent_gap() {
    for (name, away) in [
        (
            "taken out for a moment",
            "alter publication walferry drop table profiles; alter publication walferry add table profiles",
        ),
        (
            "made anew",
            "begin; alter table profiles rename to old; create table profiles (like old including all);
             alter table profiles replica identity full; alter publication walferry drop table old;
             alter publication walferry add table profiles; commit",
        ),
        ("not all operations", "alter publication walferry set (publish = 'insert, update')"),
    ] {
        let scene = Scene::unwitnessed("away").await;
        let mut walferry = scene.ready().await;
        scene.sql(away).await;
        let code = walferry.wait_exit(REFUSAL_MAX).await;
        let output = walferry.output();
        assert_eq!(code, 3, "{name}: {output}");
        assert!(output.contains("walferry rebuild"), "{name}: {output}");
    }
    // While nobody runs, too; and the command that is named mends it.
    let scene = Scene::new("away").await;
    scene.once().await;
    scene.sql("alter publication walferry drop table profiles").await;
    scene.sql(ROWS).await;
    scene.sql("alter publication walferry add table profiles").await;
    assert!(scene.command(&["run", "--once"], 3).await.contains("walferry rebuild"));
    scene.command(&["rebuild", "--yes"], 0).await;
    scene.once().await;
    scene.documents_become_true(RECOVERY_MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_never_fits_fails_alone() {
    let servers =
        Servers::private_elasticsearch(&[("indexing_pressure.memory.primary.limit", "20mb")]).await;
    let scene = Scene::unwitnessed_on(TestBed::on("never_fits", servers).await);
    scene.sql(ROWS).await;
    let mut walferry = scene.start_with(&[("WALFERRY_QUEUE_RETRY_DELAY_MIN", "200ms")]);
    // A row that both the load and the stream carry has two jobs.
    walferry
        .wait_output("\"event\":\"load_done\",\"table\":\"public.listings\"", RECOVERY_MAX)
        .await;
    scene
        .sql(
            "insert into listings (user_id, category_id, title, description, status)
             select 'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
                    'dev', repeat('abcdefghi ', 3000000), 'active'",
        )
        .await;
    scene.sql(&listings(1, 30)).await;
    let end =
        "select count(*) from elasticsearch_sync_queue where status in ('completed', 'failed')";
    until(RECOVERY_MAX, "all have their fate", async || scene.number(end).await == 31).await;
    assert_eq!(scene.statuses().await, "completed 30, failed 1");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_instance_notices_that_elasticsearch_is_gone() {
    let servers = Servers::private_elasticsearch(&[]).await;
    let scene = Scene::unwitnessed_on(TestBed::on("idle_gone", servers).await);
    let mut walferry = scene.ready().await;
    let servers = &scene.bed.servers;
    servers.elasticsearch.stop().await;
    until(RECOVERY_MAX, "it is not ready", async || {
        status(&walferry, "/readyz").await == Some(503)
    })
    .await;
    servers.elasticsearch.start().await;
    walferry.wait_ready(RECOVERY_MAX).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_slot_on_one_database_is_refused() {
    let scene = Scene::unwitnessed("second_slot").await;
    let mut walferry = scene.ready().await;
    let mut other = scene.start_with(&[("WALFERRY_SLOT", "another")]);
    assert_eq!(other.wait_exit(REFUSAL_MAX).await, 3, "{}", other.output());
    assert!(other.output().contains(&format!("WALFERRY_SLOT={}", scene.bed.slot)));
    let slots = "select count(*) from pg_replication_slots where slot_name = 'another'";
    assert_eq!(scene.number(slots).await, 0, "no slot is left behind");
    walferry.stop().await;
}
