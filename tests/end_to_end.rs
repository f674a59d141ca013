//! What a user sees who starts walferry beside a database that is in use.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::oracle::json::Json;
use crate::oracle::{self, INDICES};
use crate::scene::{Scene, get};

/// A seller, three categories one below the other, an active listing in the lowest and a draft.
const ROWS: &str = "
    insert into profiles (id, username, full_name, email, phone)
    values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe', 'canary@secret.example', '+905550001122');
    insert into categories (id, parent_id, name, slug) values
        ('b0000000-0000-4000-8000-000000000001', null, 'Elektronik', 'elektronik'),
        ('b0000000-0000-4000-8000-000000000002', 'b0000000-0000-4000-8000-000000000001', 'Telefon', 'telefon'),
        ('b0000000-0000-4000-8000-000000000003', 'b0000000-0000-4000-8000-000000000002', 'Akıllı', 'akilli');
    insert into listings (id, user_id, category_id, title, description, price, status, latitude, longitude)
    select ('c0000000-0000-4000-8000-00000000000' || n)::uuid,
           'a0000000-0000-4000-8000-000000000001'::uuid, 'b0000000-0000-4000-8000-000000000003'::uuid,
           'İlan ' || n, 'açıklama', 10.50,
           case n when 1 then 'active' else 'draft' end, 41, 29
    from generate_series(1, 2) n;";

const ACTIVE: &str = "c0000000-0000-4000-8000-000000000001";
const DRAFT: &str = "c0000000-0000-4000-8000-000000000002";

/// How long a change may take to arrive before a test fails.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);

async fn scene(name: &str) -> Scene {
    let scene = Scene::new(name).await;
    scene.sql(ROWS).await;
    scene.forget_witnessed().await;
    scene
}

#[tokio::test]
async fn present_rows_are_loaded_and_changes_follow() {
    let scene = scene("load").await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(ARRIVAL_MAX).await;
    assert_eq!(
        scene.number("select count(*) from elasticsearch_sync_queue").await,
        0,
        "no receipts for the load"
    );
    scene
        .sql(
            "update listings set price = 11 where status = 'active';
             delete from listings where status = 'draft'",
        )
        .await;
    scene.settled(ARRIVAL_MAX).await;
    scene.assert_true().await;
    assert_eq!(scene.number("select count(*) from elasticsearch_sync_queue").await, 2);
    walferry.stop().await;
}

#[tokio::test]
async fn a_listing_is_found_only_while_active() {
    let scene = scene("status").await;
    let mut walferry = scene.ready().await;
    for (state, is_there) in [
        ("active", true),
        ("sold", false),
        ("active", true),
        ("draft", false),
        ("rejected", false),
        ("active", true),
    ] {
        scene.sql(&format!("update listings set status = '{state}' where id = '{DRAFT}'")).await;
        scene.settled(ARRIVAL_MAX).await;
        scene.assert_true().await;
        assert_eq!(scene.indices.all("listings").await.contains_key(DRAFT), is_there, "{state}");
        let suggestions = scene.indices.all("ai_suggestions").await;
        assert_eq!(suggestions.contains_key(&format!("listing:{DRAFT}")), is_there, "{state}");
    }
    scene.sql(&format!("delete from listings where id = '{DRAFT}'")).await;
    scene.settled(ARRIVAL_MAX).await;
    scene.assert_true().await;
    walferry.stop().await;
}

#[tokio::test]
async fn a_rename_reaches_every_document_that_shows_the_name() {
    let scene = scene("rename").await;
    let mut walferry = scene.ready().await;
    scene
        .sql(
            "update categories set name = 'Teknoloji' where slug = 'elektronik';
             update profiles set full_name = 'Ayşe Çağlar' where username = 'ayse'",
        )
        .await;
    scene.settled(ARRIVAL_MAX).await;
    scene.assert_true().await;
    let listing =
        scene.indices.all("listings").await.remove(ACTIVE).expect("the listing is there").source;
    let path = Json::parse(r#"["Teknoloji", "Telefon", "Akıllı"]"#);
    assert_eq!(listing.get("category").get("path"), &path);
    assert_eq!(listing.get("seller").get("full_name").text(), "Ayşe Çağlar");
    let category = "b0000000-0000-4000-8000-000000000003";
    assert_eq!(scene.indices.all("categories").await[category].source.get("path"), &path);
    let suggestion = &scene.indices.all("ai_suggestions").await[&format!("listing:{ACTIVE}")];
    assert_eq!(suggestion.source.get("path"), &path);
    walferry.stop().await;
}

#[tokio::test]
async fn private_columns_reach_neither_an_index_nor_a_log() {
    let scene = scene("private").await;
    let mut walferry = scene.ready().await;
    scene.sql("update profiles set email = 'moved@canary.example', phone = '+905559990000'").await;
    scene.settled(ARRIVAL_MAX).await;
    for index in INDICES {
        for (id, found) in scene.indices.all(index).await {
            let text = format!("{:?}", found.source);
            for secret in ["canary", "+90555", "\"email\"", "\"phone\""] {
                assert!(!text.contains(secret), "{index}/{id} shows {secret}");
            }
        }
    }
    walferry.stop().await;
    let output = walferry.output();
    assert!(
        !output.contains("canary") && !output.contains("+90555"),
        "a log line shows a row's value"
    );
}

#[tokio::test]
async fn a_termination_ends_in_order_and_a_second_start_writes_nothing() {
    let scene = scene("term").await;
    let mut walferry = scene.ready().await;
    scene.sql("update listings set view_count = view_count + 1").await;
    scene.settled(ARRIVAL_MAX).await;
    scene.assert_true().await;
    let started = tokio::time::Instant::now();
    walferry.stop().await;
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    let before = scene.versions().await;
    let mut walferry = scene.ready().await;
    // A change of its own proves that the second run has passed all that it could have repeated.
    scene.sql("update profiles set email = 'x' where username = 'ayse'").await;
    scene.settled(ARRIVAL_MAX).await;
    walferry.stop().await;
    let after = scene.versions().await;
    let moved: BTreeSet<_> =
        after.iter().filter(|(id, version)| before.get(*id) != Some(*version)).collect();
    assert!(
        moved.iter().all(|(id, _)| id.starts_with("profiles/") || id.starts_with("listings/")),
        "only what shows the profile may be written again: {moved:?}"
    );
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn once_catches_up_and_ends() {
    let scene = scene("once").await;
    scene.once().await; // the first run loads
    assert_eq!(
        oracle::document_problems(&scene.bed.sql, &scene.indices).await,
        Vec::<String>::new()
    );
    scene.sql("update listings set status = 'active', price = 99.90; update categories set name = name || '!'").await;
    scene.once().await; // the second run catches up
    scene.settled(Duration::from_secs(1)).await;
    scene.assert_true().await;
    scene.once().await; // the third finds nothing to do
}

#[tokio::test]
async fn answers_keep_their_shape() {
    let scene = scene("shape").await;
    let mut walferry = scene.ready().await;
    assert_eq!(get(&walferry, "/livez").await.0, 200);
    assert_eq!(get(&walferry, "/readyz").await.0, 200);
    scene.sql("update listings set view_count = 1").await;
    scene.settled(ARRIVAL_MAX).await;
    for queue in ["/api/v1/ai-suggestions/queue", "/api/v1/queue"] {
        let stats = get(&walferry, &format!("{queue}/stats")).await.1;
        keys(
            &stats,
            "avgProcessingTime completed failed lastProcessedAt pending processing stuck total",
        );
        for (key, value) in [
            ("total", 2),
            ("completed", 2),
            ("pending", 0),
            ("processing", 0),
            ("failed", 0),
            ("stuck", 0),
        ] {
            assert_eq!(stats.get(key).number(), Some(value), "{queue}: {key}");
        }
        assert!(matches!(stats.get("avgProcessingTime"), Json::Number(_)));
        iso_utc(stats.get("lastProcessedAt"));
    }
    walferry.stop().await;
}

/// The object has exactly these keys, written in order with blanks between them.
fn keys(found: &Json, expected: &str) {
    let Json::Object(members) = found else { panic!("{found:?} is not an object") };
    let found: Vec<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(found.join(" "), expected);
}

fn iso_utc(value: &Json) {
    let text = value.text();
    let is_utc = text.ends_with('Z') || text.ends_with("+00:00");
    assert!(is_utc && text.as_bytes().get(10) == Some(&b'T'), "{text:?} is not ISO 8601 in UTC");
}
