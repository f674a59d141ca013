//! The export of spans to a collector, by OTLP over HTTP (opentelemetry.io/docs/specs/otlp).
//!
//! The SDK reads the standard variables: endpoint, headers, timeout, batches, sampler, resource.
//! It exports from its own thread and drops spans that exceed its queue. Therefore a slow or
//! unreachable collector loses spans and does not delay changes.
//!
//! Builds without the feature `otlp` contain `no_export` instead.
//!
//! Not here: the decision whether spans are exported (`variables`).

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::Client;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::super::error_chain::sentence;
use super::LogError;
use super::variables::Variables;
use crate::config::Strings;
use crate::telemetry::http_client;
use crate::telemetry::throttle::LogThrottle;
use crate::telemetry::trace;

/// The specification's default for `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIME_MAX: Duration = Duration::from_secs(10);
/// The greatest size of a response of the collector.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The time for the export of the remaining spans when the process ends.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Exports spans.
pub(super) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Starts the export on `runtime`; `None` if the variables do not enable it.
    pub(super) fn start(environment: &Strings, runtime: &Handle) -> Result<Option<Self>, LogError> {
        let variables = Variables(environment);
        if !variables.want_spans(true)? {
            return Ok(None);
        }
        let client = Collector {
            client: http_client::client(TIME_MAX),
            runtime: runtime.clone(),
            throttle: Mutex::default(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .build()
            .map_err(|_| LogError::Exporter)?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let mut resource = Resource::builder().with_attribute(version);
        if !is_service_named(&variables) {
            resource = resource.with_service_name("walferry");
        }
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter);
        Ok(Some(Self(provider.with_resource(resource.build()).build())))
    }

    /// The layer that receives the spans.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let only_spans = Targets::new().with_target(trace::TARGET, LevelFilter::TRACE);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("walferry"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(only_spans)
    }

    /// Exports the remaining spans.
    pub(super) fn close(self) {
        // A collector that does not answer in time has been logged already.
        drop(self.0.shutdown_with_timeout(CLOSE_MAX));
    }
}

/// True if the variables set the name of the service.
fn is_service_named(variables: &Variables<'_>) -> bool {
    let attributes = variables.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().split(',');
    let keys: BTreeSet<&str> =
        attributes.filter_map(|one| one.split_once('=')).map(|(key, _)| key.trim()).collect();
    variables.get("OTEL_SERVICE_NAME").is_some() || keys.contains("service.name")
}

/// The SDK's HTTP client, which uses walferry's own.
#[derive(Debug)]
struct Collector {
    client: Client,
    /// The SDK calls from a thread outside of the runtime.
    runtime: Handle,
    throttle: Mutex<LogThrottle>,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(send(self.client.clone(), request)).await?;
        match &sent {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.log_failure(&format!("the collector answers {}", answer.status())),
            Err(error) => self.log_failure(&sentence(error.as_ref())),
        }
        sent
    }
}

impl Collector {
    fn log_failure(&self, reason: &str) {
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held_back) = throttle.admit(Instant::now(), reason) {
            tracing::warn!(
                event = "traces_not_sent",
                held_back,
                error = reason,
                "some traces are lost; changes are not concerned"
            );
        }
    }
}

/// Sends a request and reads the response into memory.
async fn send(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    // Errors are logged without the URL, which can contain a password.
    let mut answer =
        client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes").into());
        }
        body.extend_from_slice(&part);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
