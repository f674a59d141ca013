//! A transaction of any size passes through bounded memory.

use std::time::Duration;

use crate::scene::Scene;
use crate::support::launcher::note;

/// Rows of the one transaction.
const ROWS: i64 = 1_000_000;
/// The most that the process may ever hold.
const PEAK_MEBIBYTES_MAX: u64 = 128;
/// From the commit to the last receipt.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);

#[tokio::test]
async fn a_transaction_of_a_million_rows_fits_in_128_mebibytes() {
    let scene = Scene::unwitnessed("million").await;
    scene
        .sql(
            "insert into profiles (id, username, full_name, email)
             values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe', 'a@example.com');
             insert into categories (id, name, slug) values ('b0000000-0000-4000-8000-000000000001', 'Ev', 'ev')",
        )
        .await;
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
