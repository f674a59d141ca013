//! Limits of every request's head and time, and the headers of every answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{self, MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout};

use super::problem::Problem;
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
    request: Request,
    next: Next,
) -> Response {
    let method = word(request.method());
    let began = Instant::now();
    let _under_way = state.metrics.http.under_way();
    let id = request_id::new();
    let route = path.as_ref().map_or("other", MatchedPath::as_str);
    let span = trace::request(method, route, &id);
    let answer = async {
        match too_long(&request) {
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
