//! `GET /api/v1/session`: whether a token is needed, and the identity of this client.

use std::time::SystemTime;

use axum::Json;
use axum::extract;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::auth::identity::Identity;
use crate::api::auth::refusal::AuthRefusal;
use crate::api::server::time;
use crate::api::state::ApiState;

/// The body of `GET session`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub(in crate::api) struct SessionView {
    /// `none`: every client may do everything. `required`: a token is needed.
    authentication: &'static str,
    identity: Option<SessionIdentity>,
    version: &'static str,
    slot: String,
    /// The setting `api.environment`.
    environment: Option<String>,
}

/// The client's identity.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Who")]
struct SessionIdentity {
    name: String,
    role: &'static str,
    /// ISO 8601, UTC.
    expires_at: Option<String>,
}

/// `GET /api/v1/session`. Public; a token that is wrong is still refused.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
    headers: HeaderMap,
) -> Result<Json<SessionView>, AuthRefusal> {
    let identity = state.access.authenticator.identify(&headers, SystemTime::now()).await?;
    let required = state.access.authenticator.is_required();
    Ok(Json(SessionView {
        authentication: if required { "required" } else { "none" },
        identity: identity.map(SessionIdentity::from),
        version: env!("CARGO_PKG_VERSION"),
        slot: state.slot.to_string(),
        environment: state.access.environment.clone(),
    }))
}

impl From<Identity> for SessionIdentity {
    fn from(Identity { name, role, expires_at }: Identity) -> Self {
        Self { name, role: role.as_str(), expires_at: expires_at.map(time::iso8601) }
    }
}
