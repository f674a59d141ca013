//! One node of Elasticsearch: the request, the limits of its response, and its health.
//!
//! It connects to the configured node only (`telemetry::http_client`), and with a file of certificate
//! authorities no other is trusted.
//!
//! Not here: which node a request is sent to (`client`).

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Certificate, Method, Response};
use tokio::time::Instant;
use url::Url;

use super::backoff::Backoff;
use super::verdict::{ServiceError, ServiceFailure};
use crate::config::{Authentication, Elasticsearch};
use crate::postgres::{Disposition, Recovery};
use crate::telemetry::http_client;

/// The time without requests to a node that failed.
const REST: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };

/// A response has no more bytes: a page of a listing and the items of a bulk request have a few
/// hundred each.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// The HTTP method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

/// A response of any status.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    pub body: Bytes,
}

impl HttpResponse {
    /// 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The settings are not valid for a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no Elasticsearch node is configured; set ELASTICSEARCH_URL")]
    NoNode,
    #[error("could not read the certificate authority {path:?}; give a PEM file")]
    Certificate { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the Elasticsearch API key has characters that no header can carry")]
    ApiKey,
    #[error("could not make an HTTP client for {node}")]
    Build { node: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Recovery for ClientError {
    /// The settings have to be corrected.
    fn disposition(&self) -> Disposition {
        Disposition::Operator
    }
}

/// No complete response arrived.
#[derive(Debug, thiserror::Error)]
#[error("no answer from {node}: {reason}")]
pub struct NoResponse {
    pub node: String,
    /// [`ServiceFailure::Timeout`] or [`ServiceFailure::Connection`].
    pub failure: ServiceFailure,
    /// The causes. A node's URL contains no credentials.
    pub reason: String,
}

/// A node and its health.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    /// Ends with a slash.
    url: Url,
    http: reqwest::Client,
    health: Mutex<NodeHealth>,
}

#[derive(Debug, Default)]
struct NodeHealth {
    failures: u32,
    resting_until: Option<Instant>,
}

impl From<NoResponse> for ServiceError {
    fn from(error: NoResponse) -> Self {
        Self { failure: error.failure, reason: error.to_string() }
    }
}

impl Node {
    /// # Errors
    ///
    /// The certificate or the API key is not valid.
    pub(super) fn new(
        url: &url::Url,
        settings: &Elasticsearch,
        authority: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        let name = format!(
            "{}://{}:{}",
            url.scheme(),
            url.host_str().unwrap_or("?"),
            url.port_or_known_default().unwrap_or(9200)
        );
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization(&settings.authentication)? {
            headers.insert(AUTHORIZATION, authorization);
        }
        let mut builder = http_client::builder(settings.request_timeout).default_headers(headers);
        let authorities = match (authority, &settings.certificate_authority) {
            (Some(pem), Some(path)) => {
                builder = builder.tls_built_in_root_certs(false);
                Certificate::from_pem_bundle(pem).map_err(|source| ClientError::Certificate {
                    path: path.clone(),
                    source: source.into(),
                })?
            }
            _ => http_client::system_authorities(),
        };
        let http = http_client::trusting(builder, authorities)
            .build()
            .map_err(|source| ClientError::Build { node: name.clone(), source: source.into() })?;
        Ok(Self { name, url: url.clone(), http, health: Mutex::default() })
    }

    /// Sends one request to the node.
    ///
    /// # Errors
    ///
    /// No complete response arrived.
    pub(super) async fn send(
        &self,
        verb: Verb,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<HttpResponse, NoResponse> {
        let method = match verb {
            Verb::Get => Method::GET,
            Verb::Put => Method::PUT,
            Verb::Post => Method::POST,
            Verb::Delete => Method::DELETE,
        };
        let failed = |failure, reason| NoResponse { node: self.name.clone(), failure, reason };
        let url = self.url.join(path.trim_start_matches('/'));
        let url = url.map_err(|e| failed(ServiceFailure::NotUnderstood, e.to_string()))?;
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            if !headers.contains_key(CONTENT_TYPE) {
                request = request.header(CONTENT_TYPE, "application/json");
            }
            request = request.body(body);
        }
        let sent = request.headers(headers).send().await;
        let response = sent.map_err(|error| no_response(&self.name, error))?;
        let status = response.status().as_u16();
        if response.status().is_redirection() {
            let reason = format!(
                "it redirects to {} (status {status}), which is not followed; set \
                 ELASTICSEARCH_URL to the address of Elasticsearch itself",
                self.redirect_target(&response)
            );
            return Err(failed(ServiceFailure::NotUnderstood, reason));
        }
        let body = self.read(response).await?;
        Ok(HttpResponse { status, body })
    }

    /// The body, which has a limit.
    async fn read(&self, mut response: Response) -> Result<Bytes, NoResponse> {
        let mut body = BytesMut::new();
        loop {
            let chunk = response.chunk().await.map_err(|error| no_response(&self.name, error))?;
            let Some(chunk) = chunk else { return Ok(body.freeze()) };
            if body.len() + chunk.len() > RESPONSE_BYTES_MAX {
                return Err(NoResponse {
                    node: self.name.clone(),
                    failure: ServiceFailure::NotUnderstood,
                    reason: format!("it answers with more than {} MiB", RESPONSE_BYTES_MAX >> 20),
                });
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// Where a response leads to, without credentials and query.
    fn redirect_target(&self, response: &Response) -> String {
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let Some(target) = location.and_then(|to| self.url.join(to).ok()) else {
            return "nowhere".to_owned();
        };
        let port = target.port().map_or_else(String::new, |port| format!(":{port}"));
        let host = target.host_str().unwrap_or_default();
        format!("{}://{host}{port}{}", target.scheme(), target.path())
    }

    /// Until when it gets no requests.
    pub(super) fn resting_until(&self) -> Option<Instant> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).resting_until
    }

    /// Records whether the node was healthy at its last request.
    pub(super) fn record(&self, healthy: bool) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if healthy {
            *health = NodeHealth::default();
        } else {
            health.failures = health.failures.saturating_add(1);
            let rest = REST.delay(health.failures, fastrand::f64());
            health.resting_until = Some(Instant::now() + rest);
        }
    }
}

/// The header that authenticates each request.
fn authorization(authentication: &Authentication) -> Result<Option<HeaderValue>, ClientError> {
    let text = match authentication {
        Authentication::None => return Ok(None),
        Authentication::Basic { username, password } => {
            format!("Basic {}", BASE64.encode(format!("{username}:{}", password.0)))
        }
        // `id:key` as in the API's response, or already encoded.
        Authentication::ApiKey(key) if key.0.contains(':') => {
            format!("ApiKey {}", BASE64.encode(&key.0))
        }
        Authentication::ApiKey(key) => format!("ApiKey {}", key.0),
    };
    if let Authentication::ApiKey(key) = authentication
        && !key.0.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(ClientError::ApiKey);
    }
    let mut value = HeaderValue::try_from(text).map_err(|_| ClientError::ApiKey)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn no_response(node: &str, error: reqwest::Error) -> NoResponse {
    // The node is named already, and the path says nothing.
    let error = error.without_url();
    let failure =
        if error.is_timeout() { ServiceFailure::Timeout } else { ServiceFailure::Connection };
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !reason.contains(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        cause = inner.source();
    }
    NoResponse { node: node.to_owned(), failure, reason }
}
