//! Spans to a collector, by OTLP over HTTP (opentelemetry.io/docs/specs/otlp).
//!
//! The SDK reads the standard variables: where to, headers, timeout, batches, sampler, resource.
//! What it would put up with in silence is checked here. It sends from a thread of its own and
//! drops what does not fit its queue, so a collector that is slow or gone costs spans, not changes.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use reqwest::Client;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::LogError;
use crate::config::Strings;
use crate::telemetry::http_client;
use crate::telemetry::readiness::{Repeats, sentence};

/// The specification's default for `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// What makes spans and sends them, if the variables ask for it.
pub(super) fn provider(
    environment: &Strings,
    runtime: &Handle,
) -> Result<Option<SdkTracerProvider>, LogError> {
    let variables = Variables(environment);
    if !variables.are_on()? {
        return Ok(None);
    }
    variables.check()?;
    let client = Collector {
        client: http_client::client(TIME_MAX),
        runtime: runtime.clone(),
        repeats: Mutex::default(),
    };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|_| LogError::Exporter)?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut resource = Resource::builder().with_attribute(version);
    if !variables.name_the_service() {
        resource = resource.with_service_name("walferry");
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter);
    Ok(Some(provider.with_resource(resource.build()).build()))
}

/// The environment, as far as traces go. An empty variable is one that is not there, as the
/// specification has it.
struct Variables<'a>(&'a Strings);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn are_on(&self) -> Result<bool, LogError> {
        if self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(false);
        }
        match self.get(EXPORTER) {
            Some("otlp") => Ok(true),
            Some("none") => Ok(false),
            Some(other) => Err(refused(EXPORTER, other, "otlp or none")),
            None => Ok(ENDPOINTS.iter().any(|name| self.get(name).is_some())),
        }
    }

    fn check(&self) -> Result<(), LogError> {
        for name in PROTOCOLS {
            if let Some(other) = self.get(name).filter(|value| *value != "http/protobuf") {
                return Err(refused(name, other, "http/protobuf (port 4318 of most collectors)"));
            }
        }
        let sampler = self.get(SAMPLER);
        if let Some(other) = sampler.filter(|value| !SAMPLERS.contains(value)) {
            let allowed = "always_on, always_off, traceidratio or one of them after parentbased_";
            return Err(refused(SAMPLER, other, allowed));
        }
        let share = self.get(SAMPLER_ARGUMENT).unwrap_or_default();
        let is_share = share.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share));
        if sampler.is_some_and(|value| value.ends_with("traceidratio")) && !is_share {
            return Err(refused(SAMPLER_ARGUMENT, share, "a number from 0 to 1"));
        }
        Ok(())
    }

    fn name_the_service(&self) -> bool {
        let attributes = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default().split(',');
        let keys: BTreeSet<&str> =
            attributes.filter_map(|one| one.split_once('=')).map(|(key, _)| key.trim()).collect();
        self.get("OTEL_SERVICE_NAME").is_some() || keys.contains("service.name")
    }
}

fn refused(name: &'static str, value: &str, allowed: &'static str) -> LogError {
    LogError::Variable { name, value: value.to_owned(), allowed }
}

/// The collector, reached by this program's own HTTP client.
#[derive(Debug)]
struct Collector {
    client: Client,
    /// The SDK's thread is none of tokio's.
    runtime: Handle,
    repeats: Mutex<Repeats>,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(send(self.client.clone(), request)).await?;
        match &sent {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.tell(&format!("the collector answers {}", answer.status())),
            Err(error) => self.tell(&sentence(error.as_ref())),
        }
        sent
    }
}

impl Collector {
    fn tell(&self, reason: &str) {
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held_back) = repeats.admit(Instant::now(), reason) {
            tracing::warn!(
                event = "traces_not_sent",
                held_back,
                error = reason,
                "some traces are lost; changes are not concerned"
            );
        }
    }
}

async fn send(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    // An address may have a password in it.
    let answer = client.execute(request.try_into()?).await;
    let mut answer = answer.map_err(reqwest::Error::without_url)?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes").into());
        }
        body.extend_from_slice(&part);
    }
    let mut told = Response::new(Bytes::from(body));
    *told.status_mut() = answer.status();
    *told.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(variables: &[(&str, &str)]) -> Result<bool, String> {
        let strings =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let strings: Strings = strings.collect();
        let variables = Variables(&strings);
        let on = variables.are_on().map_err(|error| error.to_string())?;
        variables.check().map_err(|error| error.to_string())?;
        Ok(on)
    }

    #[test]
    fn the_standard_variables_turn_traces_on_and_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        assert_eq!(on(&[]), Ok(false));
        assert_eq!(on(&[endpoint]), Ok(true));
        assert_eq!(on(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(false));
        assert_eq!(on(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(false));
        assert_eq!(on(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), Ok(false));
        assert_eq!(on(&[("OTEL_TRACES_EXPORTER", "otlp")]), Ok(true));
    }

    #[test]
    fn what_is_not_supported_is_named_with_what_is() {
        let check = |name: &str, value: &str, remedy: &str| {
            let error = on(&[(name, value)]).unwrap_err();
            let named = error.contains(name) && error.contains(remedy);
            assert!(named && error.contains(&format!("{value:?}")), "{error}");
        };
        check("OTEL_TRACES_EXPORTER", "jaeger", "otlp or none");
        check("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf");
        check("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf");
        check("OTEL_TRACES_SAMPLER", "xray", "always_on");
        let ratio = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        for share in ["", "2", "half"] {
            let error = on(&[ratio, ("OTEL_TRACES_SAMPLER_ARG", share)]).unwrap_err();
            assert!(error.contains("OTEL_TRACES_SAMPLER_ARG") && error.contains("0 to 1"));
        }
        assert_eq!(on(&[ratio, ("OTEL_TRACES_SAMPLER_ARG", "0.25")]), Ok(false));
    }
}
