//! `GET /api/v1/session`: whether one must say who one is, and who one is.

use std::time::SystemTime;

use axum::Json;
use axum::extract;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Identity, Refusal};
use crate::api::State;
use crate::api::server::time;

/// The body of `GET session`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Session {
    /// `none`: everybody may do everything. `required`: a token is needed.
    authentication: &'static str,
    identity: Option<Who>,
    version: &'static str,
    slot: String,
    /// The setting `api.environment`.
    environment: Option<String>,
}

/// Who asks.
#[derive(Debug, Serialize, JsonSchema)]
struct Who {
    name: String,
    role: &'static str,
    /// ISO 8601, UTC.
    expires_at: Option<String>,
}

/// `GET /api/v1/session`. Public; a token that is wrong is still refused.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
) -> Result<Json<Session>, Refusal> {
    let identity = state.access.authenticator.identify(&headers, SystemTime::now()).await?;
    let required = state.access.authenticator.is_required();
    Ok(Json(Session {
        authentication: if required { "required" } else { "none" },
        identity: identity.map(Who::from),
        version: env!("CARGO_PKG_VERSION"),
        slot: state.slot.to_string(),
        environment: state.access.environment.clone(),
    }))
}

impl From<Identity> for Who {
    fn from(Identity { name, role, expires_at }: Identity) -> Self {
        Self { name, role: role.as_str(), expires_at: expires_at.map(time::iso8601) }
    }
}
