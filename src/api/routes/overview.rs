//! Health and an overview of everything: what the page's head shows.
//!
//! Not here: the verdict (`admin::health`), and overviews as a stream (`events`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract;
use schemars::JsonSchema;
use serde::Serialize;

use crate::admin::figures::sampler::SampledFigures;
use crate::admin::figures::slot::SlotView;
use crate::admin::figures::stats::Stats;
use crate::admin::health::{self, QueueHealth, Signals};
use crate::admin::pool::PoolError;
use crate::api::server::problem::Problem;
use crate::api::server::time;
use crate::api::state::ApiState;
use crate::telemetry::readiness::{Component, ComponentReadiness, Readiness};

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Part")]
pub(in crate::api) struct ComponentReport {
    ok: bool,
    since: String,
    message: String,
}

impl ComponentReport {
    /// Leaves out what only clients that have signed in may read.
    pub(in crate::api) fn withhold(&mut self) {
        self.message = "see GET /api/v1/health/detailed".to_owned();
    }
}

impl From<&ComponentReadiness> for ComponentReport {
    fn from(state: &ComponentReadiness) -> Self {
        let since = time::iso8601(state.since);
        Self { ok: state.ok, since, message: state.message.clone() }
    }
}

/// The body of `GET overview`, and of the stream's `state`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(in crate::api) struct Overview {
    /// Null while PostgreSQL does not answer.
    stats: Option<Stats>,
    pub(in crate::api) health: QueueHealth,
    slot: Option<SlotView>,
    /// What feeds Elasticsearch: `load`, `table`, `live`, or `stopped`, `standby`, `starting`.
    mode: String,
    components: BTreeMap<&'static str, ComponentReport>,
    /// When the oldest unfinished change was committed.
    oldest_unfinished_at: Option<String>,
    /// Jobs finished a second.
    rate_per_second: f64,
}

/// Figures, or why there are none.
type FiguresResult = Result<SampledFigures, Arc<PoolError>>;

/// `GET health`: always 200, with the verdict in the body.
pub(in crate::api) async fn health(
    extract::State(state): extract::State<ApiState>,
) -> Json<QueueHealth> {
    let figures = state.sampler.now().await;
    Json(judge(&state, &figures, &state.status.now()))
}

/// `GET overview`.
pub(in crate::api) async fn get(extract::State(state): extract::State<ApiState>) -> Json<Overview> {
    let figures = state.sampler.now().await;
    Json(overview(&state, &figures))
}

/// The overview that belongs to these figures.
pub(in crate::api) fn overview(state: &ApiState, figures: &FiguresResult) -> Overview {
    let readiness = state.status.now();
    let known = figures.as_ref().ok();
    let slot = known.and_then(|figures| figures.sample.slot.known());
    Overview {
        stats: known.map(|figures| Stats::from(&figures.sample.counts)),
        health: judge(state, figures, &readiness),
        slot: slot.map(|slot| SlotView::new(&state.slot, slot)),
        mode: mode(&readiness, known.is_some_and(|figures| !figures.sample.indexing)),
        components: readiness.iter().map(|(name, state)| (name.as_str(), state.into())).collect(),
        oldest_unfinished_at: known
            .and_then(|figures| figures.sample.oldest_unfinished.as_ref())
            .map(|moment| moment.at.clone()),
        rate_per_second: known.map_or(0.0, |figures| (figures.rate * 10.0).round() / 10.0),
    }
}

fn judge(state: &ApiState, figures: &FiguresResult, readiness: &Readiness) -> QueueHealth {
    let reason = figures.as_ref().map_err(|error| Problem::from(&**error).sentence().to_owned());
    let sample = match &reason {
        Ok(figures) => Ok(&*figures.sample),
        Err(reason) => Err(reason.as_str()),
    };
    let stalled = figures.as_ref().map(|figures| figures.stalled).unwrap_or_default();
    let age = |since: SystemTime| since.elapsed().unwrap_or_default();
    let overdue = state.metrics.waits.overdue();
    health::judge(&Signals { sample, readiness, age, stalled, overdue })
}

/// What feeds Elasticsearch.
pub(in crate::api) fn mode(readiness: &Readiness, stopped: bool) -> String {
    let of = |wanted| readiness.iter().find(|(component, _)| *component == wanted);
    match of(Component::Mode) {
        _ if stopped => "stopped".to_owned(),
        _ if readiness.is_standby() => "standby".to_owned(),
        Some((_, state)) if state.ok => state.message.clone(),
        _ => "starting".to_owned(),
    }
}
