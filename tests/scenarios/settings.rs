//! What a role, a database, a server or a host may set: walferry runs all the same, or names it.

use super::{RECOVERY_MAX, ROWS};
use crate::scene::{Scene, until};
use crate::support::faults::Fault;
use crate::support::{Servers, Sql, TestBed, eventually};

const SAID: &str = r#"{"error":{"type":"x","reason":"said [a value]"},"status":400}"#;

/// The sentence of the refusal has an ellipsis, which LATIN5 has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_settled_whatever_the_encoding_of_the_database() {
    let options = "encoding 'LATIN5' locale 'C' template template0";
    let bed = TestBed::with_options("latin", Servers::shared().await, options).await;
    let scene = Scene::unwitnessed_on(bed);
    scene
        .sql(
            "insert into profiles (id, username, full_name, email)
        values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe', 'a@example.com')",
        )
        .await;
    let stage = scene.faults().await;
    let mut walferry = scene.start_through(&stage, &[]);
    walferry.wait_ready(RECOVERY_MAX).await;
    stage.script("/_bulk", vec![Fault::Answer(400, SAID); 1]);
    scene.sql("update profiles set full_name = 'Ayşe Ç.'").await;
    let told = "select count(*) from elasticsearch_sync_queue
        where error_message like '%: x: said ...' and retry_count = 1";
    until(RECOVERY_MAX, "the refusal is settled", async || scene.number(told).await == 1).await;
    walferry.stop().await;
}

/// A transaction of another database holds the slot's creation up.
#[tokio::test(flavor = "multi_thread")]
async fn who_holds_up_the_slot_is_named() {
    let scene = Scene::unwitnessed("held_up").await;
    scene.sql(ROWS).await;
    let url = scene.bed.servers.postgres.url("postgres");
    let other = Sql::connect(&format!("{url}?application_name=long_job")).await.unwrap();
    other.run("begin; select pg_current_xact_id()").await;
    let pid: i32 = other.value("select pg_backend_pid()", &[]).await;
    let mut walferry = scene.start();
    let named = format!("process {pid} of user postgres (long_job) in database postgres");
    eventually(RECOVERY_MAX, "it names the transaction", async || {
        let (_, text) = walferry.http_get("/readyz").await.map_err(|e| e.to_string())?;
        if text.contains(&named) && text.contains("s ago") { Ok(()) } else { Err(text) }
    })
    .await;
    other.run("rollback").await;
    walferry.wait_ready(RECOVERY_MAX).await;
    assert!(walferry.output().contains("slot_held_up"), "{}", walferry.output_end());
    walferry.stop().await;
}

/// A role that owns nothing, and was granted nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_rights_on_the_schema_is_told_the_command() {
    let scene = Scene::unwitnessed("rightless").await;
    scene.bed.migrate().await;
    let role = scene.bed.index("role");
    scene.sql(&format!("create role {role} login replication password 'x'")).await;
    let port = scene.bed.servers.postgres.port;
    let url = format!("postgres://{role}:x@127.0.0.1:{port}/{}", scene.bed.database);
    let mut check = scene.bed.walferry(&["check"]).env("DATABASE_URL", url).spawn();
    assert_eq!(check.wait_exit(RECOVERY_MAX).await, 3, "{}", check.output());
    let output = check.output();
    assert!(output.contains(&format!("walferry migrate --runtime-role {role}")), "{output}");
    scene.sql(&format!("drop role {role}")).await;
}

#[tokio::test]
async fn a_password_that_is_not_encoded_is_not_shown() {
    let scene = Scene::unwitnessed("unencoded").await;
    for command in [["check"].as_slice(), &["run"], &["migrate"]] {
        let url = "postgres://walferry:s3@cr3t@127.0.0.1:5432/app";
        let mut child = scene.bed.walferry(command).env("DATABASE_URL", url).spawn();
        assert_eq!(child.wait_exit(RECOVERY_MAX).await, 2, "{}", child.output());
        let output = child.output();
        assert!(output.contains("percent-encoded") && !output.contains("cr3t"), "{output}");
    }
}

/// A copy of a database has the slot of the original in its settings.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_in_a_copy_leaves_the_slot_of_the_original_alone() {
    let original = Scene::unwitnessed("original").await;
    original.sql(ROWS).await;
    original.once().await;
    let copy = Scene::unwitnessed("copy").await;
    copy.bed.migrate().await;
    let launch = copy.bed.walferry(&["rebuild", "--yes"]);
    let mut rebuild = launch.env("WALFERRY_SLOT", &original.bed.slot).spawn();
    assert_eq!(rebuild.wait_exit(RECOVERY_MAX).await, 3, "{}", rebuild.output());
    let output = rebuild.output();
    assert!(output.contains(&format!("is that of database {}", original.bed.database)), "{output}");
    let slots = format!(
        "select count(*) from pg_replication_slots where slot_name = '{}'",
        original.bed.slot
    );
    assert_eq!(original.number(&slots).await, 1);
}

/// As long as a setting forbids writing.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_waited_for() {
    let scene = Scene::unwitnessed("read_only").await;
    scene.sql(ROWS).await;
    let setting = |value: &str| {
        format!("alter database {} set default_transaction_read_only = {value}", scene.bed.database)
    };
    scene.sql(&setting("on")).await;
    let mut walferry = scene.start();
    eventually(RECOVERY_MAX, "it names the setting", async || {
        let (_, text) = walferry.http_get("/readyz").await.map_err(|e| e.to_string())?;
        let named = text.contains("default_transaction_read_only is on (set by: database)");
        if named { Ok(()) } else { Err(text) }
    })
    .await;
    scene.sql(&setting("off")).await;
    walferry.wait_ready(RECOVERY_MAX).await;
    walferry.stop().await;
}
