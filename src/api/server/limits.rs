//! Limits of every request's head and time, and the headers of every answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{self, ConnectInfo, MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout};

use super::forwarded;
use super::listener::Peer;
use super::problem::{Invalid, Problem};
use super::request_id;
use crate::api::state::ApiState;
use crate::telemetry::trace;

const URI_BYTES_MAX: usize = 4 * 1024;
const HEADER_BYTES_MAX: usize = 16 * 1024;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Headers of every answer: no caching, no guess at its type, no frames, no access for other pages.
/// HSTS is up to the proxy that ends TLS.
const HEADERS: [(HeaderName, &str); 8] = [
    (header::CACHE_CONTROL, "private, no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; object-src 'none'; \
         frame-ancestors 'none'",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Refuses requests that are too long, ends those that take too long, and counts all.
pub(in crate::api) async fn guard(
    extract::State(state): extract::State<ApiState>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let method = word(request.method());
    name_client(&state, &mut request);
    let began = Instant::now();
    let _under_way = state.metrics.http.under_way();
    let id = request_id::new();
    let route = path.as_ref().map_or("other", MatchedPath::as_str);
    let span = trace::request(method, route, &id);
    let answer = async {
        match too_long(&request).or_else(|| unreadable(&request)) {
            Some(problem) => problem.into_response(),
            None => timeout(ANSWER_TIME_MAX, next.run(request)).await.unwrap_or_else(|_| {
                let detail = "there was no answer in time; try again";
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail).into_response()
            }),
        }
    };
    let mut response = request_id::scope(Arc::clone(&id), answer).await;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
    }
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    let status = response.status().as_u16();
    trace::answered(&span, status);
    state.metrics.http_request(route, method, status, began.elapsed());
    response
}

/// Behind a trusted proxy the request comes from the client that the proxy names.
fn name_client(state: &ApiState, request: &mut Request) {
    let Some(ConnectInfo(Peer(peer))) = request.extensions().get::<ConnectInfo<Peer>>().copied()
    else {
        return;
    };
    let trusted = &state.access.trusted_proxies;
    let address = forwarded::client(peer.ip(), request.headers(), trusted);
    if address != peer.ip() {
        let client = Peer(SocketAddr::new(address, 0));
        request.extensions_mut().insert(ConnectInfo(client));
    }
}

fn too_long(request: &Request) -> Option<Problem> {
    let uri = request.uri();
    let uri_bytes = uri.path().len() + uri.query().map_or(0, str::len);
    if uri_bytes > URI_BYTES_MAX {
        let detail = format!("the URI is longer than {URI_BYTES_MAX} bytes");
        return Some(Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", detail));
    }
    if header_bytes(request.headers()) > HEADER_BYTES_MAX {
        let detail = format!("the headers are longer than {HEADER_BYTES_MAX} bytes");
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Some(Problem::new(status, "headers_too_long", detail));
    }
    None
}

/// A path that is no text once its escapes are read.
fn unreadable(request: &Request) -> Option<Problem> {
    let mut bytes = Vec::new();
    let mut rest = request.uri().path().as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high)
                    .zip(digit(low))
                    .and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    if std::str::from_utf8(&bytes).is_ok() {
        return None;
    }
    let invalid = Invalid::new("path", "is no UTF-8 once its escapes are read", "text in UTF-8");
    Some(Problem::invalid(vec![invalid]))
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// The method as a metric's label: one of a few words for any method that a client sends.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
