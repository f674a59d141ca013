//! `/livez`, `/readyz`, `/metrics`: answers from memory alone.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;

use super::overview::ComponentState;
use crate::api::state::ApiState;
use crate::telemetry::readiness::Readiness;

/// The body of `/livez`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Live {
    status: &'static str,
    version: &'static str,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Ready {
    /// `ready` or `not ready`.
    status: &'static str,
    ready: bool,
    /// Parts that are not well.
    missing: Vec<&'static str>,
    components: BTreeMap<&'static str, ComponentState>,
}

/// The process runs. The answer does not depend on PostgreSQL or Elasticsearch: an orchestrator would
/// otherwise restart walferry until its database has started.
pub(in crate::api) async fn live() -> Json<Live> {
    Json(Live { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Whether progress is possible, and what is missing.
pub(in crate::api) async fn ready(
    extract::State(state): extract::State<ApiState>,
) -> impl IntoResponse {
    let readiness = state.status.now();
    let status =
        if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = describe(&readiness);
    if state.access.authenticator.is_required() {
        // Messages name addresses: they are for clients that have signed in.
        answer.components.values_mut().for_each(ComponentState::withhold);
    }
    (status, Json(answer))
}

/// All metrics.
pub(in crate::api) async fn metrics(
    extract::State(state): extract::State<ApiState>,
) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

fn describe(readiness: &Readiness) -> Ready {
    let missing: Vec<&str> = readiness
        .iter()
        .filter(|(_, state)| !state.ok)
        .map(|(component, _)| component.as_str())
        .collect();
    let ready = missing.is_empty();
    let status = if ready { "ready" } else { "not ready" };
    let components =
        readiness.iter().map(|(name, state)| (name.as_str(), ComponentState::from(state)));
    Ready { status, ready, missing, components: components.collect() }
}
