//! The queue's figures, with the members of the system that walferry replaces.
//!
//! Not here: how they are kept (`storage::queue`), and how often they are read
//! (`admin::figures::sampler`).

use axum::Json;
use axum::extract;

use crate::admin::figures::stats::Stats;
use crate::api::server::problem::Problem;
use crate::api::state::ApiState;

/// `GET stats`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
) -> Result<Json<Stats>, Problem> {
    let figures = state.sampler.now().await.map_err(|error| Problem::from(&*error))?;
    Ok(Json(Stats::from(&figures.sample.counts)))
}
