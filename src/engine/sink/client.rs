//! The HTTP client for Elasticsearch's nodes: sends a request to a healthy node, and returns the
//! status and the body of its response.
//!
//! This is the only file that names the `elasticsearch` crate. The crate serves as a transport of
//! encoded bytes: one transport per node, without sniffing (its sniffer ends at the first failure).
//! A node that does not respond gets no requests for a while.
//!
//! Not here: retries (`dispatch`) and the meaning of a response.

use std::error::Error as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Method;
use elasticsearch::http::headers::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::verdict::{ServiceError, ServiceFailure};
use crate::config::{Authentication, Elasticsearch};
use crate::postgres::{Disposition, Recovery};

/// The time without requests to a node that failed.
const REST: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };

/// A larger body is compressed on another thread.
const COMPRESSED_HERE_MAX: usize = 64 * 1024;

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

/// A client for one cluster. Requests go to its nodes in turn.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<Node>,
    next: AtomicUsize,
    gzip: bool,
    timeout: Duration,
}

#[derive(Debug)]
struct Node {
    name: String,
    transport: Transport,
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

impl Client {
    /// Creates the client without connecting.
    ///
    /// # Errors
    ///
    /// There is no node, or the certificate or the API key is not valid.
    pub fn new(settings: &Elasticsearch) -> Result<Self, ClientError> {
        if settings.nodes.is_empty() {
            return Err(ClientError::NoNode);
        }
        let authority = match &settings.certificate_authority {
            Some(path) => Some(std::fs::read(path).map_err(|source| ClientError::Certificate {
                path: path.clone(),
                source: source.into(),
            })?),
            None => None,
        };
        let node = |url| Node::new(url, settings, authority.as_deref());
        Ok(Self {
            nodes: settings.nodes.iter().map(node).collect::<Result<_, _>>()?,
            next: AtomicUsize::new(0),
            gzip: settings.gzip,
            timeout: settings.request_timeout,
        })
    }

    /// The timeout of a request.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends JSON, or nothing, to one node.
    ///
    /// # Errors
    ///
    /// No complete response arrived. A response with an error status is no error.
    pub async fn send(
        &self,
        verb: Verb,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<HttpResponse, NoResponse> {
        let body = body.map(|json| Bytes::from(json.to_string()));
        self.send_bytes(verb, path, HeaderMap::new(), body).await
    }

    /// Sends NDJSON to one node's bulk API, compressed where configured.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub async fn send_bulk(&self, path: &str, body: Bytes) -> Result<HttpResponse, NoResponse> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let body = if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            compress(body).await
        } else {
            body
        };
        self.send_bytes(Verb::Post, path, headers, Some(body)).await
    }

    async fn send_bytes(
        &self,
        verb: Verb,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<HttpResponse, NoResponse> {
        let node = self.choose();
        let method = match verb {
            Verb::Get => Method::Get,
            Verb::Put => Method::Put,
            Verb::Post => Method::Post,
            Verb::Delete => Method::Delete,
        };
        let request = node.transport.send(method, path, headers, None::<&()>, body, None);
        let response = match request.await {
            Ok(response) => {
                let status = response.status_code().as_u16();
                response.bytes().await.map(|body| HttpResponse { status, body })
            }
            Err(error) => Err(error),
        };
        match response {
            Ok(response) => {
                // A proxy responds so for a node that is down, a node while it has no master.
                node.record(!matches!(response.status, 502..=504));
                Ok(response)
            }
            Err(error) => {
                node.record(false);
                Err(no_response(&node.name, &error))
            }
        }
    }

    /// Round robin among the healthy nodes; without any, the node of which the wait ends first.
    fn choose(&self) -> &Node {
        let now = Instant::now();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.nodes.len())
            .map(|step| &self.nodes[start.wrapping_add(step) % self.nodes.len()])
            .min_by_key(|node| node.resting_until().filter(|until| *until > now))
            .expect("there is a node")
    }
}

impl Node {
    fn new(
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
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url.clone()))
            .disable_proxy()
            .enable_meta_header(false)
            .timeout(settings.request_timeout);
        if let Some(credentials) = credentials(&settings.authentication)? {
            builder = builder.auth(credentials);
        }
        if let (Some(pem), Some(path)) = (authority, &settings.certificate_authority) {
            let certificate = Certificate::from_pem(pem).map_err(|source| {
                ClientError::Certificate { path: path.clone(), source: source.into() }
            })?;
            builder = builder.cert_validation(CertificateValidation::Full(certificate));
        }
        let transport = builder
            .build()
            .map_err(|source| ClientError::Build { node: name.clone(), source: source.into() })?;
        Ok(Self { name, transport, health: Mutex::default() })
    }

    fn resting_until(&self) -> Option<Instant> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).resting_until
    }

    /// Records whether the node was healthy at its last request.
    fn record(&self, healthy: bool) {
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

fn credentials(authentication: &Authentication) -> Result<Option<Credentials>, ClientError> {
    match authentication {
        Authentication::None => Ok(None),
        Authentication::Basic { username, password } => {
            Ok(Some(Credentials::Basic(username.clone(), password.0.clone())))
        }
        Authentication::ApiKey(key) => {
            if !key.0.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(ClientError::ApiKey);
            }
            // `id:key` as in the API's response, or already encoded.
            Ok(Some(match key.0.split_once(':') {
                Some((id, key)) => Credentials::ApiKey(id.to_owned(), key.to_owned()),
                None => Credentials::EncodedApiKey(key.0.clone()),
            }))
        }
    }
}

async fn compress(body: Bytes) -> Bytes {
    if body.len() <= COMPRESSED_HERE_MAX {
        return gzip(&body);
    }
    let work = tokio::task::spawn_blocking(move || gzip(&body));
    work.await.expect("compression does not panic, and the runtime outlives it")
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).expect("memory takes what is written");
    Bytes::from(encoder.finish().expect("memory takes what is written"))
}

fn no_response(node: &str, error: &elasticsearch::Error) -> NoResponse {
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
