//! The audit log.
//!
//! Not here: how it is written (`admin::audited`).

use axum::Json;
use axum::extract;
use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::audit::{self, AuditLine, AuditPage};
use crate::admin::page::Page;
use crate::api::server::input::Parameters;
use crate::api::server::problem::Problem;
use crate::api::state::ApiState;

/// The body of `GET audit`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Audit")]
pub(in crate::api) struct AuditList {
    entries: Vec<AuditLine>,
    total: i64,
    page: i64,
    limit: i64,
}

/// What `GET audit` takes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes the parameters that `Parameters` takes apart")]
pub(in crate::api) struct AuditQuery {
    /// From 1.
    page: Option<i64>,
    /// 1 to 200; 50 if not given.
    limit: Option<i64>,
}

/// `GET audit`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
    mut parameters: Parameters,
) -> Result<Json<AuditList>, Problem> {
    let page = parameters.number("page", 1..=2_000, 1);
    let limit = parameters.number("limit", 1..=200, 50);
    parameters.finish()?;
    let part = Page { offset: (page - 1) * limit, limit };
    let found = state.pool.read(async |client| audit::page(client, part).await).await?;
    let AuditPage { lines, total } = found;
    Ok(Json(AuditList { entries: lines, total, page, limit }))
}
