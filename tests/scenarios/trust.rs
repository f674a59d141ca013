//! Elasticsearch does something else than it said, or than it was set up for: it is noticed, and put
//! right or told; no job is completed by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use walferry::config::{self, Authentication, Refresh};
use walferry::engine::sink::client::{Client, Verb};

use super::{RECOVERY_MAX, ROWS, listings};
use crate::scene::{Scene, lives, status, until};
use crate::support::faults::Fault;
use crate::support::{Servers, Walferry, eventually};

const INDEX: &str = "listings-000001";

/// Waits until `/readyz` refuses with all of these words.
async fn unready(walferry: &Walferry, words: &[&str]) {
    eventually(RECOVERY_MAX, "it is not ready, and says why", async || {
        let (code, text) = walferry.http_get("/readyz").await.map_err(|e| e.to_string())?;
        let says_all = words.iter().all(|word| text.contains(word));
        if code == 503 && says_all { Ok(()) } else { Err(format!("{code} {text}")) }
    })
    .await;
}

async fn ready_again(walferry: &Walferry) {
    until(RECOVERY_MAX, "it is ready again", async || {
        status(walferry, "/readyz").await == Some(200)
    })
    .await;
}

impl Scene {
    async fn put(&self, method: Method, path: &str, body: Value) {
        self.bed.elasticsearch.request(method, path, Some(&body)).await;
    }

    async fn no_job_has_failed(&self) {
        assert!(!self.statuses().await.contains("failed"), "{}", self.statuses().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_alias_on_another_index_completes_no_job() {
    let scene = Scene::new("moved").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    let aliases = scene.bed.elasticsearch.aliases(&scene.bed.index(INDEX)).await.to_string();
    let alias = scene.bed.index("listings-w-1");
    assert!(aliases.contains(&alias), "{aliases}");
    let foreign = scene.bed.index("foreign");
    scene.put(Method::PUT, &format!("/{foreign}"), json!({})).await;
    let index = scene.bed.index(INDEX);
    scene
        .put(
            Method::POST,
            "/_aliases",
            json!({ "actions": [
                { "remove": { "index": index, "alias": alias } },
                { "add": { "index": foreign, "alias": alias, "is_write_index": true } },
            ]}),
        )
        .await;
    scene.sql(&listings(1, 50)).await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("a moved alias").await;
    ready_again(&walferry).await;
    walferry.stop().await;
}

/// The server of the tests has no processor that drops a document; a pipeline that is not there
/// refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_pipeline_of_a_template_is_not_the_indexs() {
    let scene = Scene::new("piped").await;
    let pattern = format!("{}*", scene.bed.index_prefix);
    let template = format!("/_index_template/{}", scene.bed.index("piped"));
    let pipelines = json!({ "index.default_pipeline": "no", "index.final_pipeline": "no" });
    let body = json!({ "index_patterns": [pattern], "priority": 900,
        "template": { "settings": pipelines } });
    scene.put(Method::PUT, &template, body).await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    // And while it runs.
    let index = scene.bed.index(INDEX);
    scene.bed.elasticsearch.put_index_settings(&index, &pipelines).await;
    until(RECOVERY_MAX, "the index's own are back", async || {
        let settings = scene.bed.elasticsearch.index_settings(&index).await;
        settings["index.default_pipeline"] == "_none" && settings["index.final_pipeline"] == "_none"
    })
    .await;
    scene.sql(&listings(1, 50)).await;
    scene.settled(RECOVERY_MAX).await;
    scene.assert_true().await;
    scene.assert_no_attempt_lost("a pipeline").await;
    walferry.stop().await;
    scene.bed.elasticsearch.try_request(Method::DELETE, &template, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_for_searches_is_put_back_or_named() {
    let scene = Scene::new("searched").await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 5)).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    let (index, alias) = (scene.bed.index(INDEX), scene.bed.index("listings"));
    let foreign = scene.bed.index("foreign");
    scene.put(Method::PUT, &format!("/{foreign}"), json!({})).await;
    let change = async |verb: &str, index: &str| {
        let body = json!({ "actions": [{ verb: { "index": index, "alias": alias } }] });
        scene.put(Method::POST, "/_aliases", body).await;
    };
    change("remove", &index).await;
    let path = format!("/{alias}/_count");
    until(RECOVERY_MAX, "searches find the documents again", async || {
        let found = scene.bed.elasticsearch.try_request(Method::GET, &path, None).await;
        matches!(found, Ok((200, _)))
    })
    .await;
    change("remove", &index).await;
    change("add", &foreign).await;
    unready(&walferry, &[&alias, &foreign, "/_aliases"]).await;
    walferry.stop().await;
    // At a start it is no other.
    let mut walferry = scene.start();
    unready(&walferry, &[&alias, &foreign, "/_aliases"]).await;
    lives(&mut walferry, Duration::from_secs(2)).await;
    change("remove", &foreign).await;
    ready_again(&walferry).await;
    walferry.stop().await;
}

/// The index keeps its name, its uuid and its mapping, and loses its documents.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_was_allocated_empty_is_noticed() {
    let servers = Servers::private_elasticsearch(&[]).await;
    let scene = Scene::witnessed_on("emptied_shard", servers).await;
    scene.sql(ROWS).await;
    scene.sql(&listings(1, 20)).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    let index = scene.bed.index(INDEX);
    let elasticsearch = &scene.bed.elasticsearch;
    let settings = elasticsearch.index_settings(&index).await;
    let uuid = settings["index.uuid"].as_str().expect("an index has a uuid");
    elasticsearch.request(Method::POST, &format!("/{index}/_close"), None).await;
    let shard =
        scene.bed.servers.elasticsearch.data_directory().join("indices").join(uuid).join("0");
    for part in ["index", "translog"] {
        std::fs::remove_dir_all(shard.join(part)).unwrap();
    }
    drop(
        elasticsearch.try_request(Method::POST, &format!("/{index}/_open?timeout=2s"), None).await,
    );
    let nodes = elasticsearch.request(Method::GET, "/_nodes/_local?filter_path=nodes.*.name", None);
    let nodes = nodes.await;
    let node = nodes["nodes"].as_object().unwrap().values().next().unwrap()["name"].clone();
    let empty = json!({ "commands": [{ "allocate_empty_primary": {
        "index": index, "shard": 0, "node": node, "accept_data_loss": true } }] });
    eventually(RECOVERY_MAX, "an empty shard is allocated", async || {
        let path = "/_cluster/reroute?retry_failed=true&metric=none";
        let answer = elasticsearch.try_request(Method::POST, path, Some(&empty)).await;
        let health = format!("/_cluster/health/{index}?filter_path=status");
        let found = elasticsearch.try_request(Method::GET, &health, None).await;
        match &found {
            Ok((200, body)) if !body.to_string().contains("red") => Ok(()),
            _ => Err(format!("{answer:?} {found:?}")),
        }
    })
    .await;
    unready(&walferry, &[&index, "walferry rebuild"]).await;
    walferry.stop().await;
    let output = scene.command(&["run", "--once"], 3).await;
    assert!(output.contains("walferry rebuild") && output.contains(&index), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_refuse_named_indices_fail_no_job() {
    let settings = &[("rest.action.multi.allow_explicit_index", "false")];
    let servers = Servers::private_elasticsearch(settings).await;
    let scene = Scene::witnessed_on("explicit", servers).await;
    scene.sql(ROWS).await;
    let mut walferry = scene.start();
    unready(&walferry, &["rest.action.multi.allow_explicit_index"]).await;
    scene.no_job_has_failed().await;
    walferry.stop().await;
    let output = scene.command(&["check"], 3).await;
    assert!(output.contains("allow_explicit_index: true"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routing_that_is_required_is_refused_at_start() {
    let scene = Scene::new("routed").await;
    let pattern = format!("{}*", scene.bed.index_prefix);
    let template = format!("/_index_template/{}", scene.bed.index("routed"));
    scene
        .put(
            Method::PUT,
            &template,
            json!({ "index_patterns": [pattern], "priority": 901, "template": {
                "mappings": { "_routing": { "required": true } } } }),
        )
        .await;
    let output = scene.command(&["run"], 3).await;
    assert!(output.contains("_routing.required"), "{output}");
    scene.bed.elasticsearch.try_request(Method::DELETE, &template, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_at_a_restart_is_waited_for_and_named() {
    let scene = Scene::new("blocked").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
    scene.forget_witnessed().await;
    let index = scene.bed.index(INDEX);
    for block in ["read_only", "metadata"] {
        let set = async |on: bool| {
            let body = json!({ format!("index.blocks.{block}"): on });
            scene.bed.elasticsearch.put_index_settings(&index, &body).await;
        };
        set(true).await;
        let mut walferry = scene.start();
        let name =
            if block == "metadata" { "index metadata (api)" } else { "index read-only (api)" };
        unready(&walferry, &[&index, name]).await;
        scene.sql("update profiles set bio = coalesce(bio, '') || 'x'").await;
        let jobs = "select count(*) from elasticsearch_sync_queue where status = 'pending'";
        until(RECOVERY_MAX, "changes are captured", async || scene.number(jobs).await > 0).await;
        lives(&mut walferry, Duration::from_secs(1)).await;
        set(false).await;
        ready_again(&walferry).await;
        scene.settled(RECOVERY_MAX).await;
        walferry.stop().await;
    }
    scene.assert_true().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_shards_at_the_first_start_is_waited_for() {
    let servers = Servers::private_elasticsearch(&[]).await;
    let scene = Scene::witnessed_on("shards", servers).await;
    let limit = |shards: Value| json!({ "cluster.max_shards_per_node": shards });
    scene.bed.elasticsearch.put_cluster_settings(&limit(json!(1))).await;
    scene.sql(ROWS).await;
    let mut walferry = scene.start();
    unready(&walferry, &["maximum normal shards open", "/[1]"]).await;
    scene.slot_made().await;
    lives(&mut walferry, Duration::from_secs(1)).await;
    scene.bed.elasticsearch.put_cluster_settings(&limit(Value::Null)).await;
    ready_again(&walferry).await;
    scene.documents_become_true(RECOVERY_MAX).await;
    walferry.stop().await;
}

/// Every document of a load is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_whose_documents_are_refused_does_not_end_well() {
    let scene = Scene::unwitnessed("refused_load").await;
    scene.sql(ROWS).await;
    let stage = scene.faults().await;
    stage.always("/_bulk", Some(Fault::Items(400, "document_parsing_exception", &REFUSED)));
    let launch = scene.bed.walferry(&["run", "--once"]).env("ELASTICSEARCH_URL", &stage.url);
    let mut walferry = launch.spawn();
    let code = walferry.wait_exit(RECOVERY_MAX).await;
    let output = walferry.output();
    assert_eq!(code, 3, "{output}");
    assert!(output.contains("refused the documents of 1 jobs"), "{output}");
}

/// A proxy refuses what contains a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_only_a_proxy_refuses_holds_up_no_other() {
    let scene = Scene::unwitnessed("censored").await;
    scene.sql(ROWS).await;
    let stage = scene.faults().await;
    let page = "<html>403 Forbidden</html>";
    stage.always("/_bulk", Some(Fault::Censor(403, page, "yasak")));
    let launch = scene.bed.walferry(&["run"]).env("ELASTICSEARCH_URL", &stage.url);
    let mut walferry = launch.env("WALFERRY_QUEUE_RETRY_DELAY_MIN", "200ms").spawn();
    walferry.wait_ready(RECOVERY_MAX).await;
    walferry.wait_output(LISTINGS_LOADED, RECOVERY_MAX).await;
    scene.sql(&listings(1, 50)).await;
    scene
        .sql(
            "insert into listings (user_id, category_id, title, description, status)
             values ('a0000000-0000-4000-8000-000000000001',
                     'b0000000-0000-4000-8000-000000000001', 'yasak', 'a', 'active')",
        )
        .await;
    scene.sql(&listings(51, 99)).await;
    let end =
        "select count(*) from elasticsearch_sync_queue where status in ('completed', 'failed')";
    until(RECOVERY_MAX, "all have their fate", async || scene.number(end).await == 100).await;
    assert_eq!(scene.statuses().await, "completed 99, failed 1");
    let named = "select count(*) from elasticsearch_sync_queue
        where status = 'failed' and error_message like '%between walferry and Elasticsearch%'";
    assert_eq!(scene.number(named).await, 1);
    walferry.stop().await;
}

const LISTINGS_LOADED: &str = "\"event\":\"load_done\",\"table\":\"public.listings\"";
const REFUSED: [&str; 1] = ["a0000000-0000-4000-8000-000000000001"];

/// A server that redirects to another, which counts its connections.
async fn redirecting(status: u16) -> (String, String, Arc<AtomicUsize>) {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://user:canary@{}/elsewhere?key=canary", target.local_addr().unwrap());
    let shown = format!("http://{}/elsewhere", target.local_addr().unwrap());
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    tokio::spawn(async move {
        while target.accept().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = format!(
                "HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\
                 connection: close\r\n\r\n"
            );
            drop(client.read(&mut [0; 4096]).await);
            drop(client.write_all(answer.as_bytes()).await);
        }
    });
    (url, shown, reached)
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_target_is_named() {
    for moved in [301, 302, 307, 308] {
        let (url, shown, reached) = redirecting(moved).await;
        let settings = config::Elasticsearch {
            nodes: vec![url.parse().unwrap()],
            authentication: Authentication::None,
            certificate_authority: None,
            gzip: false,
            request_timeout: Duration::from_secs(5),
            refresh: Refresh::Adaptive,
        };
        let client = Client::new(&settings).unwrap();
        let root = client.send(Verb::Get, "/", None).await.unwrap_err().to_string();
        assert!(root.contains(&shown) && root.contains(&moved.to_string()), "{root}");
        assert!(!root.contains("canary"), "{root}");
        let documents = client.send_bulk("/_bulk", "{}\n".into()).await.unwrap_err().to_string();
        assert!(documents.contains("is not followed"), "{documents}");
        assert_eq!(reached.load(Ordering::Relaxed), 0, "nothing was sent on");
    }
}
