//! Transactions, backlogs and fan-outs of any size pass through bounded memory.

use std::time::Duration;

use crate::scene::{Scene, until};
use crate::support::launcher::note;

/// Rows of the one transaction.
const ROWS: i64 = 1_000_000;
/// The most that the process may ever hold.
const PEAK_MEBIBYTES_MAX: u64 = 128;
/// From the commit to the last receipt.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);

const SELLER: &str = "
    insert into profiles (id, username, full_name, email)
    values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe', 'a@example.com');
    insert into categories (id, name, slug) values ('b0000000-0000-4000-8000-000000000001', 'Ev', 'ev')";

#[tokio::test]
async fn a_transaction_of_a_million_rows_fits_in_128_mebibytes() {
    let scene = Scene::unwitnessed("million").await;
    scene.sql(SELLER).await;
    let mut walferry = scene.ready().await;
    // Drafts have no documents: this is about the stream and the queue. Foreign keys would only
    // cost the server's time.
    scene
        .sql(&format!(
            "set session_replication_role = replica;
             insert into listings (user_id, category_id, title, description, status)
             select 'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
                    'ilan ' || n, 'açıklama', 'draft'
             from generate_series(1, {ROWS}) n;
             reset session_replication_role"
        ))
        .await;
    let committed = tokio::time::Instant::now();
    scene.bed.wait_acknowledged(CATCH_UP_MAX).await;
    let peak = walferry.rss_bytes().highest >> 20;
    note(&format!("a million rows: peak {peak} MiB, {:?} after the commit", committed.elapsed()));
    assert!(peak <= PEAK_MEBIBYTES_MAX, "held {peak} MiB");
    let completed = "select completed_jobs from get_elasticsearch_queue_stats()";
    assert_eq!(scene.number(completed).await, ROWS);
    assert_eq!(
        scene.number("select count(distinct record_id) from elasticsearch_sync_queue").await,
        ROWS
    );
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_large_rows_is_claimed_by_their_size() {
    const LARGE_ROWS: i64 = 400;
    let scene = Scene::unwitnessed("large_backlog").await;
    scene.sql(SELLER).await;
    let mut walferry = scene.ready().await;
    scene.command(&["stop"], 0).await;
    // Drafts have no documents, but are read. Each has a description of 1 MB that compresses well.
    scene
        .sql(&format!(
            "insert into listings (user_id, category_id, title, description, status)
             select 'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
                    'ilan ' || n, repeat(md5(n::text), 32768), 'draft'
             from generate_series(1, {LARGE_ROWS}) n"
        ))
        .await;
    let pending = "select count(*) from elasticsearch_sync_queue where status = 'pending'";
    until(CATCH_UP_MAX, "all are captured", async || scene.number(pending).await == LARGE_ROWS)
        .await;
    walferry.stop().await;
    let mut walferry = scene.start();
    scene.command(&["start"], 0).await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(CATCH_UP_MAX, "all are done", async || scene.number(completed).await == LARGE_ROWS).await;
    let peak = walferry.rss_bytes().highest >> 20;
    note(&format!("{LARGE_ROWS} jobs of 1 MB: peak {peak} MiB"));
    assert!(peak <= PEAK_MEBIBYTES_MAX, "held {peak} MiB");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_of_a_row_that_many_documents_show_take_no_room_for_each_pair() {
    const LISTINGS: i64 = 10_000;
    const CHANGES: i64 = 2_000;
    let scene = Scene::unwitnessed("many_causes").await;
    scene.sql(SELLER).await;
    scene
        .sql(&format!(
            "insert into listings (user_id, category_id, title, description, status)
             select 'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
                    'ilan ' || n, 'açıklama', 'active'
             from generate_series(1, {LISTINGS}) n"
        ))
        .await;
    let mut walferry = scene.ready().await;
    scene
        .sql(&format!(
            "do $$ begin
               for n in 1..{CHANGES} loop update profiles set full_name = 'Ayşe ' || n; end loop;
             end $$"
        ))
        .await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(CATCH_UP_MAX, "all are done", async || scene.number(completed).await == CHANGES).await;
    let peak = walferry.rss_bytes().highest >> 20;
    note(&format!("{CHANGES} changes shown by {LISTINGS} documents: peak {peak} MiB"));
    assert!(peak <= PEAK_MEBIBYTES_MAX, "held {peak} MiB");
    walferry.stop().await;
}
