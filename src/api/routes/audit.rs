//! The audit log, and what is denied.
//!
//! Not here: writing it down (`trail`, `storage::audit`).

use axum::Json;
use axum::extract;
use schemars::JsonSchema;
use serde::Serialize;

use super::stats;
use crate::admin::pool;
use crate::api::server::input::Parameters;
use crate::api::{PoolError, Problem, State};
use crate::storage::audit;
use crate::storage::audit::Entry;

/// The body of `GET audit`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Audit {
    entries: Vec<Line>,
    total: i64,
    page: i64,
    limit: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Line {
    id: i64,
    at: String,
    actor: String,
    role: String,
    address: Option<String>,
    request_id: Option<String>,
    action: String,
    target: Option<String>,
    affected: Option<i64>,
    /// `started`, `done`, `denied` or `failed`. What stays `started` died half-way.
    result: String,
    reason: Option<String>,
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
    extract::State(state): extract::State<State>,
    mut parameters: Parameters,
) -> Result<Json<Audit>, Problem> {
    let page = parameters.number("page", (1, 2_000), 1);
    let limit = parameters.number("limit", (1, 200), 50);
    parameters.finish()?;
    let look = async {
        let lent = state.pool.lend().await?;
        let found = audit::entries(&lent, ((page - 1) * limit, limit)).await?;
        lent.give_back();
        Ok::<_, PoolError>(found)
    };
    let (entries, total) = pool::in_time(look).await.map_err(|error| stats::problem(&error))?;
    Ok(Json(Audit { entries: entries.into_iter().map(line).collect(), total, page, limit }))
}

fn line(entry: Entry) -> Line {
    let Entry { id, at, actor, action, target, affected, result, reason } = entry;
    Line {
        id,
        at,
        actor: actor.name,
        role: actor.role,
        address: actor.address,
        request_id: actor.request_id,
        action,
        target,
        affected,
        result,
        reason,
    }
}
