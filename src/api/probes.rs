//! `/livez`, `/readyz`, `/metrics`: answers from memory alone.

use axum::Json;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::{State, time};
use crate::status::Readiness;

/// The process runs. Never depends on PostgreSQL or Elasticsearch: beside a database that starts
/// after it, it would otherwise be restarted for ever.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// Whether progress is possible, and what is missing.
pub(super) async fn ready(extract::State(state): extract::State<State>) -> impl IntoResponse {
    let readiness = state.status.now();
    let status =
        if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(describe(&readiness)))
}

/// All metrics.
pub(super) async fn metrics(extract::State(state): extract::State<State>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

fn describe(readiness: &Readiness) -> Value {
    let missing: Vec<&str> = readiness
        .iter()
        .filter(|(_, state)| !state.ok)
        .map(|(component, _)| component.as_str())
        .collect();
    let components: Map<String, Value> = readiness
        .iter()
        .map(|(component, state)| {
            let since = time::iso8601(state.since);
            let state = json!({ "ok": state.ok, "since": since, "message": state.message });
            (component.as_str().to_owned(), state)
        })
        .collect();
    let ready = missing.is_empty();
    let status = if ready { "ready" } else { "not ready" };
    json!({ "status": status, "ready": ready, "missing": missing, "components": components })
}
