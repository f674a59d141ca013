//! Many clients at once: readers keep no operator out, and no limit is met by normal use.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, Response};
use tokio::time::{Instant, interval, timeout};

use crate::scene::{Scene, until};
use crate::support::Walferry;

const LIMIT: Duration = Duration::from_secs(60);
const ROUNDS: usize = 3;

/// A running walferry that has sent a document.
async fn busy(scene: &Scene) -> Walferry {
    let launch = scene.bed.walferry(&["run"]).env("WALFERRY_API_TRUSTED_PROXIES", "127.0.0.1");
    let mut walferry = launch.spawn();
    walferry.wait_ready(LIMIT).await;
    let row = "insert into categories (id, name, slug)
        values ('b0000000-0000-4000-8000-000000000001', 'Cars', 'cars')";
    scene.sql(row).await;
    let done = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(LIMIT, "its job is completed", async || scene.number(done).await == 1).await;
    walferry
}

/// An answer for the client with this number, which a proxy names.
async fn ask(http: &Client, url: &str, client: usize) -> Response {
    let address = format!("10.1.{}.{}", client / 256, client % 256);
    let request = http.get(url).header("x-forwarded-for", address).timeout(LIMIT);
    request.send().await.expect("walferry answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_records_keep_no_operator_from_stopping() {
    let scene = Scene::unwitnessed("crowd_readers").await;
    let mut walferry = busy(&scene).await;
    let http = Client::new();
    let record = "/api/v1/records/categories/b0000000-0000-4000-8000-000000000001";
    let record = walferry.url(record);
    let readers = join_all((0..400).map(|number| ask(&http, &record, number)));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        let answer = http.post(walferry.url("/api/v1/queue/stop")).timeout(LIMIT).send().await;
        (answer.expect("walferry answers").status().as_u16(), began.elapsed())
    };
    let (answers, (status, took)) = tokio::join!(readers, stop);
    assert_eq!(status, 200, "after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    // They are told to come again, or wait; none takes the place of another purpose.
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    a_proxy_s_client_is_who_counts(&walferry, &http).await;
    walferry.stop().await;
}

/// Behind a trusted proxy the client's own address is in the audit log and in the limiter.
async fn a_proxy_s_client_is_who_counts(walferry: &Walferry, http: &Client) {
    let post = async |path: &str, address: &str| {
        let url = walferry.url(path);
        let request = http.post(url).header("x-forwarded-for", format!("6.6.6.6, {address}"));
        request.send().await.expect("walferry answers").status().as_u16()
    };
    assert_eq!(post("/api/v1/queue/start", "198.51.100.7").await, 200);
    let (_, audit) = walferry.get_json("/api/v1/audit?action=start&limit=1").await;
    assert_eq!(audit["entries"][0]["address"], "198.51.100.7", "{audit}");
    let mut statuses = Vec::new();
    for _ in 0..100 {
        statuses.push(post("/api/v1/queue/start?unknown=1", "198.51.100.8").await);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(post("/api/v1/queue/start?unknown=1", "198.51.100.9").await, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_limit_is_met_by_dashboards_streams_and_a_script() {
    let scene = Scene::unwitnessed("crowd_users").await;
    let mut walferry = busy(&scene).await;
    let http = Client::new();
    let url = |path: &str| walferry.url(path);
    let (events, overview) = (url("/api/v1/queue/events"), url("/api/v1/overview"));
    let (jobs, stats) = (url("/api/v1/queue/jobs"), url("/api/v1/queue/stats"));
    let mut streams = join_all((0..100).map(|_| ask(&http, &events, 0))).await;
    assert!(streams.iter().all(|stream| stream.status() == 200), "{:?}", streams[99].status());

    let mut ticks = interval(Duration::from_secs(1));
    for _ in 0..ROUNDS {
        ticks.tick().await;
        let dashboards =
            (1..=100).flat_map(|number| [&overview, &jobs].map(|path| ask(&http, path, number)));
        let script = (0..200).map(|_| ask(&http, &stats, 101));
        let (dashboards, script) = tokio::join!(join_all(dashboards), join_all(script));
        for answer in dashboards.iter().chain(&script) {
            assert_eq!(answer.status(), 200, "{}", answer.url());
        }
    }
    // Each stream says something: at once the state, then news.
    for stream in &mut streams {
        let first = timeout(LIMIT, stream.chunk()).await.expect("in time").expect("no fault");
        assert!(first.is_some_and(|bytes| bytes.starts_with(b"event: ")));
    }
    walferry.stop().await;
}
