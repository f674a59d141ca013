//! The HTTP client for Elasticsearch: sends a request to a healthy node, and returns the status and
//! the body of its response. A node that does not respond gets no requests for a while.
//!
//! Not here: one node (`node`), retries (`dispatch`) and the meaning of a response.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::node::Node;
pub use super::node::{ClientError, HttpResponse, NoResponse, Verb};
use crate::config::Elasticsearch;

/// A larger body is compressed on another thread.
const COMPRESSED_HERE_MAX: usize = 64 * 1024;

/// A client for one cluster. Requests go to its nodes in turn.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<Node>,
    next: AtomicUsize,
    gzip: bool,
    timeout: Duration,
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
        let response = node.send(verb, path, headers, body).await;
        // A proxy responds so for a node that is down, a node while it has no master.
        node.record(response.as_ref().is_ok_and(|found| !matches!(found.status, 502..=504)));
        response
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
