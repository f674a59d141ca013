//! Secrets and private values, put in every place for them, and then searched for in all that
//! walferry writes: its log, its answers, its metrics.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::Value;
use walferry::api::auth::token;
use walferry::api::routes::routes;
use walferry::api::server::route::Method as RouteMethod;
use walferry::config::Role;

use crate::api::token_entry;
use crate::scene::Scene;

const READY_MAX: Duration = Duration::from_secs(60);
/// In every secret below.
const CANARY: &str = "canary";
const PROFILE: &str = "a0000000-0000-4000-8000-000000000001";

const ROW: &str = "
    insert into profiles (id, username, full_name, email, phone)
    values ('a0000000-0000-4000-8000-000000000001', 'ayse', 'Ayşe',
            'canary-old@secret.example', 'canary-old')";
const CHANGE: &str = "
    update profiles set email = 'canary-new@secret.example', phone = 'canary-new', full_name = 'A.'";

/// All answers to a client with `token`.
async fn said(http: &Client, base: &str, token: Option<&str>, ids: &[i64]) -> String {
    let mut all = String::new();
    for route in routes() {
        let prefixes = route.place.prefixes();
        let method = match route.method {
            RouteMethod::Get => Method::GET,
            RouteMethod::Post => Method::POST,
        };
        let path = route.path.replace("{table}", "profiles").replace("{record_id}", PROFILE);
        for id in ids {
            for prefix in prefixes {
                let url = format!("{base}{prefix}{}", path.replace("{id}", &id.to_string()));
                let request = http.request(method.clone(), url);
                let request =
                    token.into_iter().fold(request, |request, token| request.bearer_auth(token));
                let mut response = request.send().await.unwrap();
                all.push_str(&format!("{} {path} {:?}\n", response.status(), response.headers()));
                let is_stream = response.headers()["content-type"] == "text/event-stream";
                if is_stream {
                    let part = response.chunk().await.unwrap().unwrap_or_default();
                    all.push_str(&String::from_utf8_lossy(&part));
                } else {
                    all.push_str(&response.text().await.unwrap());
                }
                all.push('\n');
            }
        }
    }
    all
}

#[track_caller]
fn assert_silent(source: &str, text: &str) {
    assert!(!text.is_empty(), "{source} says something");
    let found: Vec<&str> =
        text.lines().filter(|line| line.to_lowercase().contains(CANARY)).collect();
    assert!(found.is_empty(), "{source}: {found:#?}");
}

#[tokio::test]
async fn no_secret_and_no_private_value_is_told_to_anybody() {
    let scene = Scene::new("secrets").await;
    scene.sql(ROW).await;
    scene.forget_witnessed().await;
    let good = format!("wf_{CANARY}_{}", token::generate().unwrap());
    let entry = token_entry("ann", Role::Admin, &good);
    let launch = scene.bed.walferry(&["run"]);
    let mut walferry = launch
        .env("RUST_LOG", "walferry=trace,info")
        .env("WALFERRY_DATABASE_PASSWORD", "canary-database-password")
        .env("WALFERRY_ELASTICSEARCH_USERNAME", "elastic")
        .env("WALFERRY_ELASTICSEARCH_PASSWORD", "canary-elasticsearch-password")
        .env("WALFERRY_API_TOKENS", &entry)
        .env("WALFERRY_API_JWT_SECRET", "canary-secret-of-more-than-thirty-two-bytes")
        .env("WALFERRY_API_JWT_ISSUER", "https://auth.example")
        .spawn();
    walferry.wait_ready(READY_MAX).await;
    scene.sql(CHANGE).await;
    scene.settled(READY_MAX).await;

    let (http, base) = (Client::new(), walferry.url(""));
    let jobs = http.get(format!("{base}/api/v1/queue/jobs")).bearer_auth(&good);
    let jobs: Value = jobs.send().await.unwrap().json().await.unwrap();
    let ids = jobs["jobs"].as_array().unwrap().iter().filter_map(|job| job["id"].as_i64());
    let ids: Vec<i64> = ids.chain([999_999_999]).collect();
    assert!(ids.len() > 1, "{jobs}");
    let answers = said(&http, &base, Some(&good), &ids).await;
    assert!(answers.contains("masked"), "the change of a private column is shown as one");
    assert_silent("an answer to an admin", &answers);
    for wrong in [None, Some("wf_canary_wrong"), Some("canary.canary.canary")] {
        assert_silent("a refusal", &said(&http, &base, wrong, &[1]).await);
    }
    let bad = http.post(format!("{base}/api/v1/queue/operations/retry")).bearer_auth(&good);
    for body in ["{\"filter\":", "[\"canary", "{\"filter\":{\"since\":7}}"] {
        let request = bad.try_clone().unwrap().header("content-type", "application/json");
        let text = request.body(body).send().await.unwrap().text().await.unwrap();
        assert_silent("an answer to a malformed body", &text);
    }
    walferry.stop().await;
    assert_silent("the log", &walferry.output());
}
