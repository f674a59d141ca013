//! The HTTP server without the servers behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::{Client, Method, Response};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use walferry::api;
use walferry::api::auth::token;
use walferry::api::routes::routes;
use walferry::api::server::route::Method as RouteMethod;
use walferry::api::state::{ApiParts, ApiState};
use walferry::config::{Flags, Needs, Role, load};
use walferry::engine::document::parse;
use walferry::engine::supervisor::requests::OperatorRequests;
use walferry::telemetry::metrics::Metrics;
use walferry::telemetry::readiness::{Component, ReadinessReporter};

/// A line of `WALFERRY_API_TOKENS`.
pub(crate) fn token_entry(name: &str, role: Role, text: &str) -> String {
    format!("{name}:{}:{}", role.as_str(), token::hash(text).unwrap())
}

/// A server, most often one without a PostgreSQL behind it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    status: ReadinessReporter,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these settings beside the database's address.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        // A port on which nothing listens any more.
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        Self::start_on(&format!("postgres://ann@{closed}/shop"), settings).await
    }

    /// With this PostgreSQL behind it.
    pub(crate) async fn start_at(database_url: &str) -> Self {
        Self::start_on(database_url, &[]).await
    }

    async fn start_on(database_url: &str, settings: &[(&str, &str)]) -> Self {
        let url = ("DATABASE_URL".to_owned(), database_url.to_owned());
        let own = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = own.chain([url]).collect();
        let config = load(&Flags::default(), &environment, Needs::Database).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, shutdown) = (ReadinessReporter::new(), CancellationToken::new());
        let state = ApiState::new(ApiParts {
            config: Arc::new(config),
            definition: Arc::new(parse::parse(None).unwrap()),
            status: status.clone(),
            metrics: Metrics::new(),
            operator_requests: OperatorRequests::default(),
        });
        let serving = tokio::spawn(api::serve(listener, state, shutdown.clone()));
        Self { address, status, shutdown, serving }
    }

    async fn ask(&self, method: Method, path: &str) -> Response {
        let url = format!("http://{}{path}", self.address);
        Client::new().request(method, url).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).await
    }

    /// The answer is a problem with this status and code; returns its sentence.
    pub(crate) async fn refuses(
        &self,
        method: Method,
        path: &str,
        status: u16,
        code: &str,
    ) -> String {
        let response = self.ask(method, path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["success"], false, "{body}");
        assert_eq!(body["error"], body["detail"], "{body}");
        body["detail"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn it_lives_without_postgresql_and_says_what_is_missing() {
    let server = Server::start().await;
    assert_eq!(server.get("/livez").await.status(), 200);
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), 503);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["missing"].as_array().unwrap().len(), 6, "{body}");

    for component in Component::ALL {
        server.status.ok(component, "well");
    }
    assert_eq!(server.get("/readyz").await.status(), 200);

    server.status.fault(Component::Elasticsearch, "connection refused");
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), 503);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["missing"], serde_json::json!(["elasticsearch"]));
    assert_eq!(body["components"]["elasticsearch"]["message"], "connection refused");
    assert_eq!(body["components"]["database"]["ok"], true);
    server.stop().await;
}

#[tokio::test]
async fn every_error_has_one_shape() {
    let server = Server::start().await;
    for path in ["/api/v1/queue/stats", "/api/v1/ai-suggestions/queue/stats"] {
        server.refuses(Method::GET, path, 503, "database_unavailable").await;
        server.refuses(Method::DELETE, path, 405, "method_not_allowed").await;
        server.refuses(Method::GET, &format!("{path}/"), 404, "no_such_route").await;
    }
    server.refuses(Method::GET, "/nothing", 404, "no_such_route").await;
    server.refuses(Method::POST, "/livez", 405, "method_not_allowed").await;
    let long = format!("/livez?{}", "x".repeat(5000));
    server.refuses(Method::GET, &long, 414, "uri_too_long").await;
    server.stop().await;
}

#[tokio::test]
async fn a_405_says_what_the_route_answers() {
    let server = Server::start().await;
    let response = server.ask(Method::POST, "/api/v1/queue/stats").await;
    assert!(response.headers()["allow"].to_str().unwrap().contains("GET"));
    server.stop().await;
}

#[tokio::test]
async fn metrics_count_requests_by_route() {
    let server = Server::start().await;
    server.get("/livez").await;
    server.get("/some/secret/path").await;
    let text = server.get("/metrics").await.text().await.unwrap();
    for line in [
        "walferry_http_requests_total{code=\"200\",method=\"GET\",route=\"/livez\"} 1",
        "walferry_http_requests_total{code=\"404\",method=\"GET\",route=\"other\"} 1",
        "walferry_build_info{",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("secret"));
    server.stop().await;
}

#[tokio::test]
async fn answers_are_not_kept_by_anybody() {
    let server = Server::start().await;
    let response = server.get("/livez").await;
    assert_eq!(response.headers()["cache-control"], "private, no-store");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_up_the_end() {
    let server = Server::start().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    assert_eq!(server.get("/livez").await.status(), 200);
    server.stop().await;
    drop(silent);
}

#[tokio::test]
async fn a_post_refuses_what_it_does_not_know() {
    let server = Server::start().await;
    for route in routes().into_iter().filter(|route| route.method == RouteMethod::Post) {
        let path = route.path.replace("{id}", "1").replace("{table}", "listings");
        let path = path.replace("{record_id}", "c0000000-0000-4000-8000-000000000001");
        for prefix in route.place.prefixes() {
            let path = format!("{prefix}{path}");
            // It never gets as far as the database, which is not there.
            let asked = format!("{path}?dry_run=true");
            let sentence = server.refuses(Method::POST, &asked, 400, "invalid_request").await;
            assert!(sentence.contains("dry_run is not a parameter of this route"), "{sentence}");
            let url = format!("http://{}{path}", server.address);
            let body = serde_json::json!({ "reason_for_it": "none", "reason": "because" });
            let response = Client::new().post(url).json(&body).send().await.unwrap();
            assert_eq!(response.status(), 400, "{path}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_path_that_is_no_text_is_a_problem_like_any_other() {
    let server = Server::start().await;
    for path in ["/api/v1/queue/jobs/%ff", "/api/v1/records/%C3%28/1", "/%80"] {
        server.refuses(Method::GET, path, 400, "invalid_request").await;
    }
    assert_eq!(server.get("/livez?x=%ff").await.status(), 200);
    server.refuses(Method::GET, "/%C4%9F", 404, "no_such_route").await;
    server.stop().await;
}
