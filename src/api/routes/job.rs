//! One job: read, retried, discarded.
//!
//! Not here: the document (`admin::jobs::document`).

use axum::Json;
use axum::extract::{self, Path};
use axum::http::StatusCode;

use super::operations::{self, Discarded, Retried};
use crate::admin::jobs::document::{self, JobDocument};
use crate::admin::jobs::operations::job_status;
use crate::api::server::audit_log::{Requester, note_read};
use crate::api::server::input::{self, Body, Nothing, Reason};
use crate::api::server::problem::Problem;
use crate::api::state::ApiState;
use crate::storage::queue::status::Status;

/// `GET jobs/{id}`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
    Path(id): Path<String>,
    requester: Requester,
) -> Result<Json<JobDocument>, Problem> {
    let id = input::job_id(&id)?;
    note_read(&state, requester, format!("job {id}")).await?;
    let found =
        state.pool.read(async |client| document::read(client, &state.definition, id).await).await?;
    found.map(Json).ok_or_else(|| unknown(id))
}

/// `POST jobs/{id}/retry`.
pub(in crate::api) async fn retry(
    extract::State(state): extract::State<ApiState>,
    Path(id): Path<String>,
    requester: Requester,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Retried>, Problem> {
    let id = input::job_id(&id)?;
    must_be_failed(&state, id).await?;
    operations::retry_one(&state, requester, id).await.map(Json)
}

/// `POST jobs/{id}/discard`.
pub(in crate::api) async fn discard(
    extract::State(state): extract::State<ApiState>,
    Path(id): Path<String>,
    requester: Requester,
    Body(body): Body<Reason>,
) -> Result<Json<Discarded>, Problem> {
    let id = input::job_id(&id)?;
    let reason = input::reason(body.reason)?;
    must_be_failed(&state, id).await?;
    operations::discard_one(&state, requester, id, reason).await.map(Json)
}

async fn must_be_failed(state: &ApiState, id: i64) -> Result<(), Problem> {
    let status = state.pool.read(async |client| job_status(client, &state.tables, id).await);
    let status = status.await?.ok_or_else(|| unknown(id))?;
    if status == Status::Failed.as_str() {
        return Ok(());
    }
    let detail = format!("job {id} is {status}; only failed jobs can be retried or discarded");
    Err(Problem::new(StatusCode::CONFLICT, "not_failed", detail))
}

fn unknown(id: i64) -> Problem {
    let detail = format!("there is no job {id}; completed jobs are dropped after some days");
    Problem::new(StatusCode::NOT_FOUND, "no_such_job", detail)
}
