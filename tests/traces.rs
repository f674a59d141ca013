//! Spans at a collector: what they tell of a change, and that a collector in trouble costs nothing
//! but spans.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::scene::{Scene, until};
use crate::support::walferry::Launch;

const LIMIT: Duration = Duration::from_secs(30);

/// Receives spans as a collector does, or refuses them.
struct Collector {
    url: String,
    received: Arc<Mutex<Received>>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Received {
    refuses: bool,
    requests: usize,
    services: BTreeSet<String>,
    spans: Vec<Span>,
}

impl Collector {
    async fn start() -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(receive));
        let router = router.with_state(Arc::clone(&received));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, received, _server: server }
    }

    fn refuse(&self, refuses: bool) {
        self.received.lock().unwrap().refuses = refuses;
    }

    fn requests(&self) -> usize {
        self.received.lock().unwrap().requests
    }

    fn named(&self, name: &str) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        received.spans.iter().filter(|span| span.name == name).cloned().collect()
    }
}

async fn receive(State(received): State<Arc<Mutex<Received>>>, body: Bytes) -> StatusCode {
    let mut received = received.lock().unwrap();
    received.requests += 1;
    if received.refuses {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        for attribute in resource.resource.unwrap_or_default().attributes {
            if attribute.key == "service.name"
                && let Some(Value::StringValue(name)) = attribute.value.unwrap().value
            {
                received.services.insert(name);
            }
        }
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        received.spans.extend(spans);
    }
    StatusCode::OK
}

fn launch(scene: &Scene, collector: &Collector) -> Launch {
    scene
        .bed
        .walferry(&["run"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
}

/// An attribute as text.
fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_followed_from_its_recording_to_its_settlement() {
    let scene = Scene::unwitnessed("traces").await;
    let collector = Collector::start().await;
    let mut walferry = launch(&scene, &collector).spawn();
    walferry.wait_ready(LIMIT).await;
    until(LIMIT, "changes go live", async || {
        scene.sql("insert into categories (name, slug) values ('Canary', gen_random_uuid())").await;
        collector.named("batch").iter().any(|b| attribute(b, "feed").as_deref() == Some("live"))
    })
    .await;
    walferry.http_get("/api/v1/queue/stats").await.unwrap();
    let unfinished = "select count(*) from elasticsearch_sync_queue where status <> 'completed'";
    until(LIMIT, "all is done", async || scene.number(unfinished).await == 0).await;
    // What is still in the process goes out at its end.
    walferry.stop().await;

    let batches = collector.named("batch");
    let live = batches.iter().find(|b| attribute(b, "feed").as_deref() == Some("live")).unwrap();
    assert!(live.parent_span_id.is_empty());
    for stage in ["record", "render", "bulk", "settle"] {
        let spans = collector.named(stage);
        let of_live = spans.iter().find(|span| {
            span.parent_span_id == live.span_id
                || span.links.iter().any(|link| link.span_id == live.span_id)
        });
        let span = of_live.unwrap_or_else(|| panic!("no {stage} of the batch in {spans:?}"));
        assert!(span.start_time_unix_nano >= live.start_time_unix_nano, "{stage}");
        assert!(span.end_time_unix_nano <= live.end_time_unix_nano, "{stage}");
        if span.parent_span_id == live.span_id {
            assert_eq!(span.trace_id, live.trace_id);
        }
    }
    let bulk = &collector.named("bulk")[0];
    assert_eq!(attribute(bulk, "outcome").as_deref(), Some("answered"));
    assert!(attribute(bulk, "bytes").is_some_and(|bytes| bytes.parse::<u64>().unwrap() > 0));
    let settled: u64 = collector
        .named("settle")
        .iter()
        .filter_map(|span| attribute(span, "completed"))
        .map(|completed| completed.parse::<u64>().unwrap())
        .sum();
    let jobs = scene.number("select count(*) from elasticsearch_sync_queue").await;
    assert_eq!(i64::try_from(settled).unwrap(), jobs, "each job is completed once");
    let request = &collector.named("/api/v1/queue/stats")[0];
    assert_eq!(attribute(request, "http.response.status_code").as_deref(), Some("200"));

    let received = collector.received.lock().unwrap();
    assert_eq!(received.services, BTreeSet::from(["walferry".to_owned()]));
    assert!(!format!("{:?}", received.spans).to_lowercase().contains("canary"), "a row's value");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_in_trouble_costs_spans_only_and_is_told_of_once() {
    let scene = Scene::unwitnessed("collector").await;
    let collector = Collector::start().await;
    collector.refuse(true);
    let mut walferry = launch(&scene, &collector).spawn();
    walferry.wait_ready(LIMIT).await;
    let mut seen = BTreeSet::new();
    until(LIMIT, "several requests are refused", async || {
        scene.sql("insert into categories (name, slug) values ('a', gen_random_uuid())").await;
        seen.insert(collector.requests());
        seen.len() > 3
    })
    .await;
    let done = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(LIMIT, "changes go on", async || scene.number(done).await > 3).await;
    collector.refuse(false);
    until(LIMIT, "spans come again", async || {
        scene.sql("insert into categories (name, slug) values ('b', gen_random_uuid())").await;
        !collector.named("batch").is_empty()
    })
    .await;
    walferry.stop().await;
    let output = walferry.output();
    assert_eq!(output.matches("traces_not_sent").count(), 1, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_that_cannot_be_had_are_refused_at_the_start() {
    let scene = Scene::unwitnessed("traces_refused").await;
    let launch = scene.bed.walferry(&["run"]).env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let launch = launch.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    let mut walferry = launch.spawn();
    assert_eq!(walferry.wait_exit(LIMIT).await, 2);
    let output = walferry.output();
    let expected = "OTEL_EXPORTER_OTLP_PROTOCOL=\"grpc\" is not supported; write http/protobuf";
    assert!(output.contains(expected), "{output}");
}
