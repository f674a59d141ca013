//! Transactions, backlogs and fan-outs of any size pass through bounded memory.

use std::time::Duration;

use crate::scene::{Scene, until};
use crate::support::launcher::note;
use crate::support::walferry::Walferry;

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

/// Inserts drafts, which have no documents. Each has a description of 1 MB that compresses well.
fn large_drafts(rows: i64) -> String {
    format!(
        "insert into listings (user_id, category_id, title, description, status)
         select 'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
                'ilan ' || n, repeat(md5(n::text), 32768), 'draft'
         from generate_series(1, {rows}) n"
    )
}

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
    // Drafts have no documents, but are read.
    scene.sql(&large_drafts(LARGE_ROWS)).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays_near_the_limit_and_is_released() {
    const LARGE_ROWS: i64 = 150;
    const LIMIT_MEBIBYTES: f64 = 32.0;
    let scene = Scene::unwitnessed("memory_limit").await;
    scene.sql(SELLER).await;
    let launch = scene.bed.walferry(&["run"]).env("WALFERRY_LIMITS_MEMORY_MAX", "32MiB");
    let mut walferry = launch.spawn();
    walferry.wait_ready(CATCH_UP_MAX).await;
    // Drafts have no documents: this is about what is held on the way to the feed.
    scene.sql(&large_drafts(LARGE_ROWS)).await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    let mut highest = 0.0_f64;
    until(CATCH_UP_MAX, "all are done", async || {
        highest = highest.max(held(&walferry, &[]).await);
        scene.number(completed).await >= LARGE_ROWS
    })
    .await;
    note(&format!("{LARGE_ROWS} rows of 1 MB: at most {highest:.1} MiB counted"));
    assert!(highest > 1.0, "the rows were counted: {highest} MiB");
    // The step that passes the limit may be a chunk of the stream and a batch of the recorder.
    assert!(highest < LIMIT_MEBIBYTES + 8.0, "held {highest} MiB");
    until(CATCH_UP_MAX, "all is released", async || {
        held(&walferry, &["cache", "read_ahead", "rows"]).await == 0.0
    })
    .await;
    walferry.stop().await;
}

/// What a statement may cost: walferry's peak above what it has while idle.
async fn peak_of(scene: &Scene, name: &str, sql: &str) -> u64 {
    let walferry = scene.bed.walferry(&["run"]).env("WALFERRY_LIMITS_ROW_BYTES_MAX", "48MiB");
    let mut walferry = walferry.spawn();
    walferry.wait_ready(CATCH_UP_MAX).await;
    let idle = walferry.rss_bytes().highest;
    scene.sql(sql).await;
    scene.bed.wait_acknowledged(CATCH_UP_MAX).await;
    let unfinished = "select count(*) from elasticsearch_sync_queue
        where status not in ('completed', 'failed')";
    until(CATCH_UP_MAX, name, async || scene.number(unfinished).await == 0).await;
    let peak = walferry.rss_bytes().highest.saturating_sub(idle) >> 20;
    note(&format!("{name}: {peak} MiB above idle"));
    walferry.stop().await;
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn one_large_row_takes_a_few_times_its_size() {
    const ROW_MEBIBYTES: u64 = 40;
    /// What is held besides the row. One copy more than allowed is above it.
    const OTHER_MEBIBYTES: u64 = 16;
    let scene = Scene::unwitnessed("large_row").await;
    scene.sql(SELLER).await;
    scene.ready().await.stop().await;
    let text =
        |letters: &str, kibibytes: u64| format!("repeat('{letters}', {})", kibibytes << 10 >> 5);
    let text = |seed: &str, mebibytes: u64| text(&format!("{seed:a<32}"), mebibytes << 10);
    let insert = format!(
        "insert into listings (user_id, category_id, title, description, status)
         select 'a0000000-0000-4000-8000-000000000001', 'b0000000-0000-4000-8000-000000000001',
                'ilan', {}, 'draft'",
        text("x", ROW_MEBIBYTES)
    );
    let update = format!("update listings set description = {}", text("y", ROW_MEBIBYTES));
    // A document is rendered from a read of its row while the stream's image waits.
    for (name, sql, times) in [
        ("insert of a row of 40 MiB", insert.as_str(), 4),
        ("update of a row of 40 MiB", update.as_str(), 4),
        ("its document", "update listings set status = 'active'", 5),
        (
            "update beyond the limit",
            &format!("update listings set description = {}", text("z", 60)),
            4,
        ),
        ("update that leaves it beyond", "update listings set title = 'ilan 2'", 4),
    ] {
        let peak = peak_of(&scene, name, sql).await;
        let peak_max = times * ROW_MEBIBYTES + OTHER_MEBIBYTES;
        assert!(peak <= peak_max, "{name}: {peak} MiB");
    }
    let refused = "select count(*) from elasticsearch_sync_queue where status = 'failed'
        and error_message like '%62914%bytes, more than limits.row_bytes_max (50331648): make the row smaller%'
        and change_data #>> '{new,description,bytes}' = '62914560'
        and length(change_data #>> '{new,description,sha256}') = 64
        and note like 'the row has 62914% bytes, more than limits.row_bytes_max (50331648)%'";
    assert_eq!(scene.number(refused).await, 2, "both are recorded by size and hash, and refused");
}

/// The mebibytes that the pipeline holds, apart from some parts.
async fn held(walferry: &Walferry, but: &[&str]) -> f64 {
    let (_, text) = walferry.http_get("/metrics").await.expect("metrics are served");
    let parts = text.lines().filter_map(|line| {
        let (part, bytes) =
            line.strip_prefix("walferry_memory_held_bytes{part=\"")?.split_once("\"} ")?;
        (!but.contains(&part)).then(|| bytes.parse::<f64>().expect("a value is a number"))
    });
    parts.sum::<f64>() / f64::from(1 << 20)
}
