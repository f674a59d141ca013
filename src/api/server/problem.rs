//! The one shape of errors: RFC 9457, with the members that the original system's page reads.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::request_id;

/// An error as a client sees it. It has no internals: no SQL, no addresses, no row values.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<Invalid>,
    /// Members beside the usual ones.
    extra: Map<String, Value>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Invalid {
    pub field: String,
    pub reason: String,
    /// What would be right.
    pub allowed: String,
}

/// The body, for the description of the API; [`Problem`] writes it.
#[derive(JsonSchema)]
#[schemars(rename = "Problem")]
#[expect(dead_code, reason = "it stands for the body that `Problem` writes")]
pub(in crate::api) struct ProblemBody {
    r#type: String,
    title: String,
    status: u16,
    /// Stable, for programs.
    code: String,
    /// A sentence, for people.
    detail: String,
    request_id: String,
    /// Always false.
    success: bool,
    /// The same as `detail`.
    error: String,
    /// With 400: each field that is wrong.
    #[schemars(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<Invalid>>,
}

impl Problem {
    /// `code` is stable, for programs; `detail` is a sentence, for people.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), extra: Map::new() }
    }

    /// A request with fields that are not as they must be; there is at least one.
    #[must_use]
    pub fn invalid(errors: Vec<Invalid>) -> Self {
        let sentences: Vec<String> = errors
            .iter()
            .map(|e| format!("{} {}; allowed: {}", e.field, e.reason, e.allowed))
            .collect();
        let detail = sentences.join(". ");
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail) }
    }

    /// With one more member in its body.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }

    /// Its sentence.
    #[must_use]
    pub fn sentence(&self) -> &str {
        &self.detail
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }
}

impl Invalid {
    /// One field, what is wrong with it, and what would be right.
    #[must_use]
    pub fn new(field: &str, reason: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { field: field.to_owned(), reason: reason.into(), allowed: allowed.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, detail, errors, extra } = self;
        let mut body = Map::new();
        let mut member = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
        member("type", "about:blank".into());
        member("title", status.canonical_reason().unwrap_or("Error").into());
        member("status", status.as_u16().into());
        member("code", code.into());
        member("detail", detail.as_str().into());
        member("request_id", request_id::current().into());
        member("success", false.into());
        member("error", detail.into());
        if !errors.is_empty() {
            member("errors", serde_json::to_value(errors).unwrap_or_default());
        }
        body.extend(extra);
        let mut response = (status, Json(body)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
