//! The admin page: static files inside the binary, served at `/` and `/assets/…`.
//!
//! Invariants: every path inside the page is relative, so it works behind a proxy's path; nothing
//! is inline and nothing external is asked for, so the strictest policy fits (`limits` sends it);
//! a browser asks each time, and the `ETag` says whether a file has changed.
//!
//! Not here: what the page shows. It uses the HTTP API like any other client.

use std::io::Write;
use std::sync::LazyLock;

use crate::value;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file as it is in the repository.
struct PageSource {
    route: &'static str,
    /// The content type.
    kind: &'static str,
    content: &'static [u8],
}

/// (route, content type, file below `page`).
macro_rules! files {
    ($(($route:literal, $kind:ident, $file:literal)),* $(,)?) => {
        &[$(PageSource { route: $route, kind: $kind, content: include_bytes!($file) }),*]
    };
}

const FILES: &[PageSource] = files![
    ("/", HTML, "index.html"),
    ("/assets/style.css", CSS, "style.css"),
    ("/assets/icon.svg", SVG, "icon.svg"),
    ("/assets/theme.js", SCRIPT, "theme.js"),
    ("/assets/app.js", SCRIPT, "app.js"),
    ("/assets/base.js", SCRIPT, "base.js"),
    ("/assets/exact.js", SCRIPT, "exact.js"),
    ("/assets/words.js", SCRIPT, "words.js"),
    ("/assets/words.en.js", SCRIPT, "words.en.js"),
    ("/assets/words.tr.js", SCRIPT, "words.tr.js"),
    ("/assets/api.js", SCRIPT, "api.js"),
    ("/assets/store.js", SCRIPT, "store.js"),
    ("/assets/parts.js", SCRIPT, "parts.js"),
    ("/assets/filters.js", SCRIPT, "filters.js"),
    ("/assets/actions.js", SCRIPT, "actions.js"),
    ("/assets/keys.js", SCRIPT, "keys.js"),
    ("/assets/overview.js", SCRIPT, "overview.js"),
    ("/assets/jobs.js", SCRIPT, "jobs.js"),
    ("/assets/job.js", SCRIPT, "job.js"),
    ("/assets/record.js", SCRIPT, "record.js"),
    ("/assets/audit.js", SCRIPT, "audit.js"),
    ("/assets/operations.js", SCRIPT, "operations.js"),
    ("/assets/vendor/preact.js", SCRIPT, "vendor/preact.js"),
    ("/assets/vendor/hooks.js", SCRIPT, "vendor/hooks.js"),
    ("/assets/vendor/htm.js", SCRIPT, "vendor/htm.js"),
    ("/assets/vendor/LICENSE-preact", TEXT, "vendor/LICENSE-preact"),
    ("/assets/vendor/LICENSE-htm", TEXT, "vendor/LICENSE-htm"),
];

static PAGE: LazyLock<Vec<PageFile>> = LazyLock::new(|| FILES.iter().map(PageFile::new).collect());

/// A file as it is sent, plain or compressed; each form has a tag of its own.
struct PageFile {
    route: &'static str,
    kind: &'static str,
    plain: Form,
    gzip: Form,
}

struct Form {
    body: Bytes,
    tag: HeaderValue,
}

impl PageFile {
    fn new(source: &PageSource) -> Self {
        let PageSource { route, kind, content } = *source;
        let plain = Form::new(Bytes::from_static(content), "");
        let gzip = Form::new(compressed(content), "-gz");
        Self { route, kind, plain, gzip }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let small = accepts_gzip(request);
        let form = if small { &self.gzip } else { &self.plain };
        let known = request.get(header::IF_NONE_MATCH).is_some_and(|tags| names(tags, &form.tag));
        let (status, body) = if known {
            (StatusCode::NOT_MODIFIED, Body::empty())
        } else {
            (StatusCode::OK, Body::from(form.body.clone()))
        };
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::ETAG, form.tag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if small {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

impl Form {
    fn new(body: Bytes, suffix: &str) -> Self {
        let digest = value::hex(&Sha256::digest(&body)[..12]);
        let tag = format!("\"{digest}{suffix}\"");
        Self { body, tag: tag.parse().expect("hexadecimal digits are a header's value") }
    }
}

/// The static routes. Every client that reaches the server may read them.
pub(super) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    PAGE.iter().fold(Router::new(), |router, file| {
        router
            .route(file.route, get(move |headers: HeaderMap| async move { file.answer(&headers) }))
    })
}

fn compressed(content: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.expect("writing to memory does not fail").into()
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next() == Some("gzip");
        named && !parts.any(|part| part.strip_prefix("q=").is_some_and(is_zero))
    })
}

fn is_zero(quality: &str) -> bool {
    quality.parse::<f32>().is_ok_and(|quality| quality <= 0.0)
}

/// Whether a list of tags has this one; a proxy that compresses may have made it weak.
fn names(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    let tags = tags.to_str().unwrap_or_default();
    let tag = tag.to_str().unwrap_or_default();
    tags.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests;
