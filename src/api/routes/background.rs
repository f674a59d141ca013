//! Operations beside the stream: asked for, listed, cancelled, paused and resumed.
//!
//! Not here: what they are (`admin::operation`), and doing them (the running process).

use axum::Json;
use axum::extract::{self, Path};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::operation::view::OperationView;
use crate::admin::operation::{self, BackfillRequest, QueuedOperations, VerifyRequest};
use crate::api::server::audit_log::{Requester, operate};
use crate::api::server::input::{self, Body, Nothing, Parameters};
use crate::api::server::problem::{Invalid, Problem};
use crate::api::state::ApiState;
use crate::storage::operation::{Steer, list};

/// Rows of a sample, and rows in a second.
const SAMPLE_MAX: u32 = 100_000;
const RATE_MAX: u32 = 1_000_000;

/// The body of `GET operations`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Operations")]
pub(in crate::api) struct OperationList {
    /// The newest first, without findings.
    operations: Vec<OperationView>,
}

/// What `GET operations` takes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes the parameters that `Parameters` takes apart")]
pub(in crate::api) struct OperationsQuery {
    /// 1 to 200; 20 if not given.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<i64>,
}

/// Which documents to compare.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct VerifyBody {
    /// A table or an index; not given: every table that has documents.
    name: Option<String>,
    /// About so many rows and documents of each table, drawn by chance, 1 to 100,000; not given: all.
    #[schemars(range(min = 1, max = 100_000))]
    sample: Option<u32>,
    /// Render anew what differs.
    #[serde(default)]
    repair: bool,
}

/// Which documents to render anew.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct BackfillBody {
    /// Not given: every table that has documents.
    table: Option<String>,
    /// SQL on the table's columns.
    #[schemars(extend("format" = "sql"))]
    #[serde(rename = "where")]
    condition: Option<String>,
    /// Keys as documents are named by them; with `table`.
    #[schemars(length(min = 1))]
    keys: Option<Vec<String>>,
    /// Rows in a second, at most; 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    rate_max: Option<u32>,
}

/// Answer of asking for operations.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "OperationsQueued")]
pub(in crate::api) struct QueuedAnswer {
    /// Their numbers.
    ids: Vec<i64>,
    success: bool,
    message: String,
}

/// Answer of cancelling, pausing and resuming.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "OperationSteered")]
pub(in crate::api) struct SteeredAnswer {
    id: i64,
    success: bool,
    message: String,
}

/// `GET operations`.
pub(in crate::api) async fn get_all(
    extract::State(state): extract::State<ApiState>,
    mut parameters: Parameters,
) -> Result<Json<OperationList>, Problem> {
    let limit = parameters.number("limit", 1..=200, 20);
    parameters.finish()?;
    let limit = u32::try_from(limit).unwrap_or(20);
    let found = state.pool.read(async |client| list(client, &state.slot, None, limit).await);
    let operations = found.await?.into_iter().map(OperationView::from).collect();
    Ok(Json(OperationList { operations }))
}

/// `GET operations/{id}`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
    Path(id): Path<String>,
) -> Result<Json<OperationView>, Problem> {
    let id = input::job_id(&id)?;
    let found = state.pool.read(async |client| list(client, &state.slot, Some(id), 1).await);
    let found = found.await?.into_iter().next();
    found.map(|row| Json(row.into())).ok_or_else(|| no_such_operation(id))
}

/// The problem of a number that no operation has.
pub(in crate::api) fn no_such_operation(id: i64) -> Problem {
    let detail = format!("there is no operation {id}");
    Problem::new(StatusCode::NOT_FOUND, "no_such_operation", detail)
}

/// `POST operations/verify`.
pub(in crate::api) async fn verify(
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(VerifyBody { name, sample, repair }): Body<VerifyBody>,
) -> Result<Json<QueuedAnswer>, Problem> {
    within("sample", sample, SAMPLE_MAX)?;
    without_nul("name", name.as_ref())?;
    let request = VerifyRequest { name, sample, is_repair: repair };
    let shared = state.clone();
    let queued = operate(&state, requester, "verify", move |operator| async move {
        operation::verify(&operator, &shared.definition, &shared.slot, request).await
    });
    Ok(Json(answer(queued.await?)))
}

/// `POST operations/backfill`.
pub(in crate::api) async fn backfill(
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(BackfillBody { table, condition, keys, rate_max }): Body<BackfillBody>,
) -> Result<Json<QueuedAnswer>, Problem> {
    within("rate_max", rate_max, RATE_MAX)?;
    without_nul("table", table.as_ref())?;
    without_nul("where", condition.as_ref())?;
    without_nul("keys", keys.iter().flatten())?;
    if condition.is_some() && keys.is_some() {
        let reason = "is given together with `where`";
        return Err(Problem::invalid(vec![Invalid::new("keys", reason, "one of the two")]));
    }
    let request = BackfillRequest { table, condition, keys, rate_max };
    let shared = state.clone();
    let queued = operate(&state, requester, "backfill", move |operator| async move {
        operation::backfill(&operator, &shared.definition, &shared.slot, request).await
    });
    Ok(Json(answer(queued.await?)))
}

/// `POST operations/{id}/cancel`.
pub(in crate::api) async fn cancel(
    extract::State(state): extract::State<ApiState>,
    Path(id): Path<String>,
    requester: Requester,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<SteeredAnswer>, Problem> {
    steer(&state, &id, requester, Steer::Cancel).await
}

/// `POST operations/{id}/pause`.
pub(in crate::api) async fn pause(
    extract::State(state): extract::State<ApiState>,
    Path(id): Path<String>,
    requester: Requester,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<SteeredAnswer>, Problem> {
    steer(&state, &id, requester, Steer::Pause).await
}

/// `POST operations/{id}/resume`.
pub(in crate::api) async fn resume(
    extract::State(state): extract::State<ApiState>,
    Path(id): Path<String>,
    requester: Requester,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<SteeredAnswer>, Problem> {
    steer(&state, &id, requester, Steer::Resume).await
}

async fn steer(
    state: &ApiState,
    id: &str,
    requester: Requester,
    what: Steer,
) -> Result<Json<SteeredAnswer>, Problem> {
    let id = input::job_id(id)?;
    let shared = state.clone();
    operate(state, requester, what.as_str(), move |operator| async move {
        operation::steer(&operator, &shared.slot, id, what).await
    })
    .await?;
    let message = match what {
        Steer::Cancel => format!("operation {id} is cancelled; what it has sent stays"),
        Steer::Pause => format!("operation {id} is paused"),
        Steer::Resume => format!("operation {id} goes on from where it was"),
    };
    Ok(Json(SteeredAnswer { id, success: true, message }))
}

fn answer(QueuedOperations(ids): QueuedOperations) -> QueuedAnswer {
    let message = match ids.as_slice() {
        [id] => format!("operation {id} is queued"),
        many => format!("{} operations are queued", many.len()),
    };
    QueuedAnswer { ids, success: true, message }
}

/// PostgreSQL has no text with this character.
fn without_nul<'t>(
    name: &'static str,
    texts: impl IntoIterator<Item = &'t String>,
) -> Result<(), Problem> {
    if texts.into_iter().any(|text| text.contains('\0')) {
        let reason = "has the character U+0000";
        return Err(Problem::invalid(vec![Invalid::new(name, reason, "text without it")]));
    }
    Ok(())
}

fn within(field: &str, given: Option<u32>, max: u32) -> Result<(), Problem> {
    match given {
        Some(number) if number == 0 || number > max => {
            let allowed = format!("a whole number from 1 to {max}");
            Err(Problem::invalid(vec![Invalid::new(field, format!("is {number}"), allowed)]))
        }
        _ => Ok(()),
    }
}
