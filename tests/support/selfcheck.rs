//! Tests of the support modules.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{Postgres, Servers, Sql, StopMode, TestBed, eventually};

#[tokio::test]
async fn a_bed_has_its_own_tables_and_documents_and_leaves_nothing() {
    let servers = Servers::shared().await;
    let bed = TestBed::new("selfcheck").await;
    let (database, prefix) = (bed.database.clone(), bed.index_prefix.clone());
    assert_eq!(bed.sql.value::<i64>("select count(*) from listings", &[]).await, 0);
    let slot = "select count(pg_create_logical_replication_slot($1, 'pgoutput'))";
    bed.sql.value::<i64>(slot, &[&bed.slot]).await;

    let index = bed.index("listings");
    assert!(bed.elasticsearch.all_documents(&index).await.is_empty());
    for id in ["category:1", "a/b c", "ç"] {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let path = format!("/{index}/_doc/{}", id.replace('+', "%20"));
        bed.elasticsearch.request(Method::PUT, &path, Some(&json!({"n": 1}))).await;
    }
    let found = bed.elasticsearch.all_documents(&index).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a/b c", "category:1", "ç"]);
    assert_eq!(bed.elasticsearch.document(&index, "a/b c").await, Some(json!({"n": 1})));
    assert_eq!(bed.elasticsearch.document(&index, "absent").await, None);

    drop(bed);
    let admin = servers.postgres.connect("postgres").await;
    let left = "select (select count(*) from pg_database where datname = $1)
        + (select count(*) from pg_replication_slots where slot_name = $1)";
    assert_eq!(admin.value::<i64>(left, &[&database]).await, 0);
    assert!(servers.elasticsearch.client().indices(&prefix).await.is_empty());
}

#[tokio::test]
async fn a_private_server_survives_each_way_of_ending() {
    let postgres = Postgres::private(&[("max_slot_wal_keep_size", "64MB")]).await;
    let sql = postgres.connect("postgres").await;
    assert_eq!(sql.value::<String>("show max_slot_wal_keep_size", &[]).await, "64MB");
    sql.run("create table kept (id int); insert into kept values (1)").await;
    postgres.restart(StopMode::Immediate).await;
    postgres.restart(StopMode::Fast).await;
    postgres.kill9();
    eventually(Duration::from_secs(20), "the server can be started again", async || match postgres
        .try_stop(StopMode::Immediate)
        .await
    {
        Err(error) if error.contains("Is server running") || error.contains("No such process") => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    postgres.start().await;
    let sql = postgres.connect("postgres").await;
    assert_eq!(sql.value::<i32>("select id from kept", &[]).await, 1);
}

#[tokio::test]
async fn a_role_other_than_the_superuser_proves_itself_with_scram() {
    let bed = TestBed::new("scram").await;
    bed.sql.run("create role scram_reader login password 'right'").await;
    let url = |password: &str| {
        let port = bed.servers.postgres.port;
        format!("postgres://scram_reader:{password}@127.0.0.1:{port}/{}", bed.database)
    };
    assert!(Sql::connect(&url("wrong")).await.is_err());
    assert!(Sql::connect(&url("right")).await.is_ok());
    bed.sql.run("drop role scram_reader").await;
}

#[tokio::test]
#[should_panic(expected = "not within 60ms: pigs fly; the last reason: seen 1 pig")]
async fn a_condition_that_never_holds_says_why() {
    eventually(Duration::from_millis(60), "pigs fly", async || {
        Err::<(), _>("seen 1 pig".to_owned())
    })
    .await;
}
