//! Health and everything else that one look tells: what the page's head shows.
//!
//! Not here: the verdict (`health`) and the stream of these looks (`events`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract;
use schemars::JsonSchema;
use serde::Serialize;

use super::stats::{self, Stats};
use crate::admin::figures::sample;
use crate::admin::figures::sampler::Figures;
use crate::admin::health;
use crate::admin::health::{Detail, Signals};
use crate::api::server::time;
use crate::api::{PoolError, State};
use crate::telemetry::readiness::{Component, Readiness};

/// The body of `GET health`. `issues`, `recommendations` and `details` belong together one by one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct Health {
    /// `healthy`, `degraded` or `unhealthy`.
    pub(in crate::api) status: &'static str,
    issues: Vec<String>,
    recommendations: Vec<String>,
    /// The issues for programs.
    details: Vec<Detail>,
    stuck_jobs: i64,
    /// Failed jobs as a share of all jobs.
    error_rate: f64,
}

/// The replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct Slot {
    name: String,
    active: bool,
    wal_status: Option<String>,
    retained_bytes: i64,
    lag_bytes: i64,
    /// WAL that can still be written before the slot may be lost; null: unlimited.
    safe_bytes: Option<i64>,
}

/// A part of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct Part {
    ok: bool,
    since: String,
    message: String,
}

impl Part {
    /// Leaves out what only those may read who have signed in.
    pub(in crate::api) fn withhold(&mut self) {
        self.message = "see GET /api/v1/health/detailed".to_owned();
    }
}

impl From<&crate::telemetry::readiness::ComponentState> for Part {
    fn from(state: &crate::telemetry::readiness::ComponentState) -> Self {
        let since = time::iso8601(state.since);
        Self { ok: state.ok, since, message: state.message.clone() }
    }
}

/// The body of `GET overview`, and of the stream's `state`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(in crate::api) struct Overview {
    /// Null while PostgreSQL does not answer.
    stats: Option<Stats>,
    pub(in crate::api) health: Health,
    slot: Option<Slot>,
    /// What feeds Elasticsearch: `load`, `table`, `live`, or `stopped`, `standby`, `starting`.
    mode: String,
    components: BTreeMap<&'static str, Part>,
    /// When the oldest unfinished change was committed.
    oldest_unfinished_at: Option<String>,
    /// Jobs finished a second.
    rate_per_second: f64,
}

/// `GET health`: always 200, with the truth in the body.
pub(in crate::api) async fn health(extract::State(state): extract::State<State>) -> Json<Health> {
    let figures = state.sampler.now().await;
    Json(judged(&figures, &state.status.now()))
}

/// `GET overview`.
pub(in crate::api) async fn get(extract::State(state): extract::State<State>) -> Json<Overview> {
    let figures = state.sampler.now().await;
    Json(look(&state, &figures))
}

/// What one look tells.
pub(in crate::api) fn look(state: &State, figures: &Result<Figures, Arc<PoolError>>) -> Overview {
    let readiness = state.status.now();
    let known = figures.as_ref().ok();
    Overview {
        stats: known.map(|figures| Stats::from(&figures.sample.counts)),
        health: judged(figures, &readiness),
        slot: known.and_then(|figures| slot(&state.slot, figures.sample.slot.known())),
        mode: mode(&readiness, known.is_some_and(|figures| !figures.sample.indexing)),
        components: readiness.iter().map(|(name, part)| (name.as_str(), part.into())).collect(),
        oldest_unfinished_at: known
            .and_then(|figures| figures.sample.oldest_unfinished.as_ref())
            .map(|moment| moment.at.clone()),
        rate_per_second: known.map_or(0.0, |figures| (figures.rate * 10.0).round() / 10.0),
    }
}

fn judged(figures: &Result<Figures, Arc<PoolError>>, readiness: &Readiness) -> Health {
    let reason = figures.as_ref().err().map(|error| stats::problem(error).sentence().to_owned());
    let sample = match (figures, &reason) {
        (Ok(figures), _) => Ok(&*figures.sample),
        (Err(_), reason) => Err(reason.as_deref().unwrap_or_default()),
    };
    let stalled = figures.as_ref().map(|figures| figures.stalled).unwrap_or_default();
    let age = |since: SystemTime| since.elapsed().unwrap_or_default();
    let health = health::judge(&Signals { sample, readiness, age, stalled });
    Health {
        status: health.verdict.as_str(),
        issues: health.issues,
        recommendations: health.recommendations,
        details: health.details,
        stuck_jobs: health.stuck_jobs,
        error_rate: health.error_rate,
    }
}

fn slot(name: &str, slot: Option<&sample::Slot>) -> Option<Slot> {
    slot.map(|slot| Slot {
        name: name.to_owned(),
        active: slot.active,
        wal_status: slot.wal_status.clone(),
        retained_bytes: slot.retained_bytes,
        lag_bytes: slot.lag_bytes,
        safe_bytes: slot.safe_bytes,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_health_is_the_documented_one() {
        let health = Health {
            status: "healthy",
            issues: Vec::new(),
            recommendations: Vec::new(),
            details: Vec::new(),
            stuck_jobs: 0,
            error_rate: 0.02,
        };
        let expected = concat!(
            r#"{"status":"healthy","issues":[],"recommendations":[],"details":[],"#,
            r#""stuckJobs":0,"errorRate":0.02}"#,
        );
        assert_eq!(serde_json::to_string(&health).unwrap(), expected);
    }
}
