//! What walferry says and does when it is given what it cannot use: one sentence that names the
//! thing and the remedy, and an exit code that tells a wrong setting (2) from a wrong world (3).
//! What only takes time, a server that does not answer yet, is waited for.

use std::time::Duration;

use crate::scene::proxy::{Proxy, Refusing};
use crate::scene::{Scene, lives, status, until};
use crate::support::Walferry;
use crate::support::launcher::{free_port, new_file};

/// How long a refusal may take.
const REFUSAL_MAX: Duration = Duration::from_secs(20);
/// How long a server's return may go unnoticed.
const RETURN_MAX: Duration = Duration::from_secs(20);
/// Longer than several attempts to connect.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs `walferry run` in `scene` with changed settings (`None` unsets one), and expects it to end
/// with `code`, saying each of `words` in any case.
async fn refuses(scene: &Scene, settings: &[(&str, Option<&str>)], code: i32, words: &[&str]) {
    said(scene, "run", settings, code, words).await;
}

async fn said(
    scene: &Scene,
    command: &str,
    settings: &[(&str, Option<&str>)],
    code: i32,
    words: &[&str],
) {
    let mut walferry = started(scene, command, settings);
    let found = walferry.wait_exit(REFUSAL_MAX).await;
    let output = walferry.output();
    assert_eq!(found, code, "{command} {settings:?}: {output}");
    let lower = output.to_lowercase();
    for word in words {
        assert!(
            lower.contains(&word.to_lowercase()),
            "{command} {settings:?} does not say {word:?}: {output}"
        );
    }
    assert!(!output.contains("panicked"), "{output}");
}

/// `walferry COMMAND` with changed settings.
fn started(scene: &Scene, command: &str, settings: &[(&str, Option<&str>)]) -> Walferry {
    let launch = scene.bed.walferry(&[command]);
    let set = settings.iter().fold(launch, |launch, (name, value)| match value {
        Some(value) => launch.env(name, value),
        None => launch.env_remove(name),
    });
    set.spawn()
}

#[tokio::test]
async fn a_wrong_setting_is_named() {
    let scene = Scene::new("settings").await;
    let check = async |name: &str, value: Option<&str>, words: &[&str]| {
        let mut all = vec![name];
        all.extend(words);
        refuses(&scene, &[(name, value)], 2, &all).await;
    };
    check("DATABASE_URL", None, &["postgres://"]).await;
    check("DATABASE_URL", Some("mysql://localhost/shop"), &["postgres://"]).await;
    check("ELASTICSEARCH_URL", None, &["http://"]).await;
    check("ELASTICSEARCH_URL", Some("localhost-9200"), &["http://"]).await;
    check("ELASTICSEARCH_URL", Some("ftp://localhost:9200"), &["http"]).await;
    check("WALFERRY_LISTEN", Some("somewhere"), &["127.0.0.1:3002"]).await;
    check("WALFERRY_SLOT", Some("Not-A-Slot"), &[]).await;
    check("WALFERRY_INDEX_PREFIX", Some("UPPER*"), &[]).await;
    check("WALFERRY_CONFIG", Some("/nowhere/walferry.toml"), &["/nowhere/walferry.toml"]).await;
    let file = new_file("configuration", "[sinks]\nspeed = 1\n");
    refuses(&scene, &[("WALFERRY_CONFIG", Some(file.as_str()))], 2, &["sinks"]).await;
}

#[tokio::test]
async fn a_password_is_never_repeated() {
    let scene = Scene::new("password").await;
    let url = "postgres://walferry:hunter2canary@127.0.0.1:notaport/shop";
    let mut walferry = started(&scene, "run", &[("DATABASE_URL", Some(url))]);
    assert_eq!(walferry.wait_exit(REFUSAL_MAX).await, 2, "{}", walferry.output());
    assert!(!walferry.output().contains("hunter2canary"), "{}", walferry.output());
}

#[tokio::test]
async fn wal_level_replica_is_refused_with_its_remedy() {
    let scene = Scene::with_own_postgres("wal_level", &[("wal_level", "replica")]).await;
    refuses(&scene, &[], 3, &["wal_level", "logical"]).await;
    said(&scene, "check", &[], 3, &["alter system set wal_level"]).await;
}

#[tokio::test]
async fn without_a_free_slot_it_is_refused_with_its_remedy() {
    let scene = Scene::with_own_postgres("slots", &[("max_replication_slots", "1")]).await;
    scene.sql("select pg_create_physical_replication_slot('taken')").await;
    refuses(&scene, &[], 3, &["max_replication_slots"]).await;
    said(&scene, "check", &[], 3, &["max_replication_slots"]).await;
}

#[tokio::test]
async fn a_role_that_may_not_enough_is_told_what_it_lacks() {
    let scene = Scene::new("role").await;
    scene.once().await; // the owner prepares everything
    let role = format!("reader_{}", scene.bed.database);
    scene
        .sql(&format!(
            "create role {role} login password 'word'; grant all on schema walferry to {role}"
        ))
        .await;
    scene
        .sql(&format!(
            "grant all on elasticsearch_sync_queue to {role};
             grant all on all tables in schema walferry to {role};
             grant all on all sequences in schema walferry to {role};
             grant all on all sequences in schema public to {role}"
        ))
        .await;
    let url = scene.bed.database_url().replace("//postgres@", &format!("//{role}:word@"));
    let settings = [("DATABASE_URL", Some(url.as_str()))];
    refuses(&scene, &settings, 3, &[&role, "replication"]).await;
    said(&scene, "check", &settings, 3, &["alter role", "replication"]).await;
    scene.sql(&format!("alter role {role} replication")).await;
    refuses(&scene, &settings, 3, &[&role, "select", "listings"]).await;
    said(&scene, "check", &settings, 3, &["grant select on"]).await;
    scene.sql(&format!("grant select on listings, profiles, categories to {role}")).await;
    scene.sql("alter table listings enable row level security").await;
    refuses(&scene, &settings, 3, &["listings", "bypassrls"]).await;
    said(&scene, "check", &settings, 3, &["alter role", "bypassrls"]).await;
    scene.sql(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let scene = Scene::new("nodb").await;
    let url = scene.bed.database_url().replace(&scene.bed.database, "nowhere_to_be_found");
    refuses(&scene, &[("DATABASE_URL", Some(&url))], 3, &["nowhere_to_be_found"]).await;
}

#[tokio::test]
async fn a_missing_table_is_named() {
    let scene = Scene::new("notable").await;
    scene.sql("drop table listings").await;
    refuses(&scene, &[], 3, &["listings"]).await;
}

#[tokio::test]
async fn a_table_without_a_key_is_named() {
    let scene = Scene::new("nokey").await;
    scene.sql("alter table listings drop constraint listings_pkey").await;
    refuses(&scene, &[], 3, &["listings", "primary key"]).await;
}

#[tokio::test]
async fn a_dropped_publication_is_named() {
    let scene = Scene::new("nopub").await;
    scene.once().await;
    scene.sql(&format!("drop publication {}", &scene.bed.publication)).await;
    scene.sql("insert into categories (name, slug) values ('Ev', 'ev')").await;
    refuses(&scene, &[], 3, &["publication", &scene.bed.publication]).await;
}

#[tokio::test]
async fn a_dropped_slot_is_no_silent_gap() {
    let scene = Scene::new("noslot").await;
    scene.once().await;
    scene.sql(&format!("select pg_drop_replication_slot('{}')", &scene.bed.slot)).await;
    scene.sql("insert into categories (name, slug) values ('Ev', 'ev')").await;
    refuses(&scene, &[], 3, &["slot", &scene.bed.slot]).await;
}

#[tokio::test]
async fn elasticsearch_that_refuses_the_credentials_ends_it() {
    let scene = Scene::new("es401").await;
    let refusing = Refusing::answering(401).await;
    let url = format!("http://user:hunter2canary@127.0.0.1:{}", refusing.port());
    let mut walferry = started(&scene, "run", &[("ELASTICSEARCH_URL", Some(&url))]);
    let ended = walferry.wait_exit(REFUSAL_MAX).await;
    let output = walferry.output();
    assert_eq!(ended, 3, "{output}");
    assert!(output.contains("401") && output.to_lowercase().contains("elasticsearch"), "{output}");
    assert!(!output.contains("hunter2canary"), "{output}");
}

#[tokio::test]
async fn elasticsearch_that_does_not_answer_yet_is_waited_for() {
    let scene = Scene::new("eslate").await;
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut walferry = started(&scene, "run", &[("ELASTICSEARCH_URL", Some(&url))]);
    waits_for(&mut walferry, "elasticsearch").await;
    scene.sql("insert into categories (name, slug) values ('Ev', 'ev')").await;
    let _proxy = Proxy::open(port, scene.bed.servers.elasticsearch.port).await;
    returns(&mut walferry).await;
    scene.documents_become_true(RETURN_MAX).await;
    walferry.stop().await;
}

#[tokio::test]
async fn postgres_that_does_not_answer_yet_is_waited_for() {
    let scene = Scene::new("pglate").await;
    let port = free_port();
    let url = scene
        .bed
        .database_url()
        .replace(&format!(":{}/", scene.bed.servers.postgres.port), &format!(":{port}/"));
    let mut walferry = started(&scene, "run", &[("DATABASE_URL", Some(&url))]);
    waits_for(&mut walferry, "database").await;
    let _proxy = Proxy::open(port, scene.bed.servers.postgres.port).await;
    returns(&mut walferry).await;
    scene.sql("insert into categories (name, slug) values ('Ev', 'ev')").await;
    scene.documents_become_true(RETURN_MAX).await;
    walferry.stop().await;
}

/// It lives, is not ready, says why, and goes on doing so.
async fn waits_for(walferry: &mut Walferry, name: &str) {
    until(RETURN_MAX, "an answer", async || status(walferry, "/livez").await == Some(200)).await;
    until(RETURN_MAX, "unready, naming it", async || {
        let (status, body) = walferry.http_get("/readyz").await.expect("it has answered before");
        status == 503 && body.to_lowercase().contains(name)
    })
    .await;
    lives(walferry, PATIENCE).await;
    assert_eq!(status(walferry, "/livez").await, Some(200));
}

async fn returns(walferry: &mut Walferry) {
    until(RETURN_MAX, "ready again", async || status(walferry, "/readyz").await == Some(200)).await;
}
