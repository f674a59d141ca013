//! One record: its jobs, row and documents, and a re-sync of them.
//!
//! Not here: what they are (`admin::record`).

use axum::Json;
use axum::extract::{self, Path};
use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::record::key::{RecordName, table_id};
use crate::admin::record::resync;
use crate::admin::record::view::RecordView;
use crate::api::server::audit_log::{Requester, note_read, operate};
use crate::api::server::input::{self, Body, Nothing};
use crate::api::server::problem::Problem;
use crate::api::state::ApiState;

/// The body of `POST …/resync`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Resynced {
    job_id: i64,
    success: bool,
    message: String,
}

/// `GET records/{table}/{record_id}`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
    Path((table, record_id)): Path<(String, String)>,
    requester: Requester,
) -> Result<Json<RecordView>, Problem> {
    table_id(&state.definition, &table)?;
    let record_id = input::record_id(&record_id)?;
    note_read(&state, requester, format!("{table} {record_id}")).await?;
    Ok(Json(state.records.read(&table, record_id).await?))
}

/// `POST records/{table}/{record_id}/resync`.
pub(in crate::api) async fn resync(
    extract::State(state): extract::State<ApiState>,
    Path((table, record_id)): Path<(String, String)>,
    requester: Requester,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Resynced>, Problem> {
    table_id(&state.definition, &table)?;
    let name = RecordName::Id(input::record_id(&record_id)?);
    let shared = state.clone();
    let job = operate(&state, requester, "resync", move |operator| async move {
        resync::resync(&operator, &shared.definition, &table, &name).await
    });
    let job_id = job.await?.id;
    let message = format!("job {job_id} renders the record's documents anew from its row");
    Ok(Json(Resynced { job_id, success: true, message }))
}
