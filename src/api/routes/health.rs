//! Every component by itself, and whether Elasticsearch can be used: by requests made now.
//!
//! Not here: the queue's health (`overview`, `admin::health`).

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Number;
use tokio::time::{Instant, timeout};

use super::overview;
use crate::ack::memory::{Memory, MemoryPart};
use crate::admin::elasticsearch::ConnectionTest;
use crate::admin::figures::stats::milliseconds;
use crate::admin::health::advice;
use crate::api::server::problem::Problem;
use crate::api::server::time;
use crate::api::state::ApiState;
use crate::storage::doing;
use crate::telemetry::readiness::{Component, ComponentReadiness};
use crate::telemetry::waits::OngoingWait;

/// PostgreSQL counts as down when it does not answer within this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// The body of `GET health/detailed`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Detailed")]
pub(in crate::api) struct DetailedHealth {
    /// `healthy`, `degraded` or `unhealthy`.
    status: &'static str,
    version: &'static str,
    /// Seconds.
    uptime: u64,
    started_at: String,
    memory: ProcessMemory,
    components: BTreeMap<&'static str, ComponentHealth>,
    pipeline: PipelineFigures,
    /// What the pipeline waits for now.
    waits: Vec<WaitView>,
}

/// A wait that has begun and not ended; of several for the same, the longest.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Wait")]
struct WaitView {
    name: &'static str,
    /// What is awaited.
    waits_for: &'static str,
    since: String,
    seconds: f64,
    /// A longer wait is overdue.
    bound_seconds: u64,
    overdue: bool,
    /// What happens past the bound, apart from the report.
    past_bound: &'static str,
}

impl From<&OngoingWait> for WaitView {
    fn from(wait: &OngoingWait) -> Self {
        let description = wait.name.description();
        Self {
            name: description.name,
            waits_for: description.waits_for,
            since: time::iso8601(wait.since),
            seconds: (wait.lasted.as_secs_f64() * 1e3).round() / 1e3,
            bound_seconds: description.bound.as_secs(),
            overdue: wait.is_overdue(),
            past_bound: description.past_bound,
        }
    }
}

/// Of this process.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Memory")]
struct ProcessMemory {
    rss_bytes: Option<u64>,
    peak_rss_bytes: Option<u64>,
    /// Rows, documents and batches that the pipeline holds.
    held_bytes: u64,
    /// Held bytes at which nothing more is taken in.
    limit_bytes: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Part")]
struct ComponentHealth {
    /// `up`, `down` or `stopped`.
    status: &'static str,
    /// Since when.
    since: String,
    /// Milliseconds that an answer took just now; null where no server can be asked.
    #[schemars(with = "Option<f64>")]
    latency: Option<Number>,
    message: String,
    /// What a person can do; null where all is well.
    remedy: Option<&'static str>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Pipeline")]
struct PipelineFigures {
    mode: String,
    lag_bytes: Option<i64>,
    retained_bytes: Option<i64>,
    safe_bytes: Option<i64>,
    unfinished_jobs: Option<i64>,
    oldest_unfinished_at: Option<String>,
    rate_per_second: f64,
}

/// What the servers answered just now.
struct Answers {
    database: Result<Duration, String>,
    /// `None` where none is configured.
    elasticsearch: Option<ConnectionTest>,
}

/// `GET health/detailed`.
pub(in crate::api) async fn detailed(
    extract::State(state): extract::State<ApiState>,
) -> Json<DetailedHealth> {
    let (database, elasticsearch) =
        tokio::join!(database_latency(&state), state.elasticsearch.test());
    let elasticsearch = state.elasticsearch.is_configured().then_some(elasticsearch);
    let answers = Answers { database, elasticsearch };
    let figures = state.sampler.now().await;
    let readiness = state.status.now();
    let overview = overview::overview(&state, &figures);
    let sample = figures.as_ref().ok().map(|figures| &figures.sample);
    let stopped = sample.is_some_and(|sample| !sample.indexing);
    let components = readiness.iter().map(|(component, reported)| {
        let is_stopped = stopped && component == Component::Mode;
        (component.as_str(), component_health(component, reported, &answers, is_stopped))
    });
    let slot = sample.and_then(|sample| sample.slot.known());
    Json(DetailedHealth {
        status: overview.health.verdict.as_str(),
        version: env!("CARGO_PKG_VERSION"),
        uptime: state.started.elapsed().as_secs(),
        started_at: time::iso8601(state.started_at),
        memory: memory(&state.metrics.memory),
        components: components.collect(),
        pipeline: PipelineFigures {
            mode: overview::mode(&readiness, stopped),
            lag_bytes: slot.map(|slot| slot.lag_bytes),
            retained_bytes: slot.map(|slot| slot.retained_bytes),
            safe_bytes: slot.and_then(|slot| slot.safe_bytes),
            unfinished_jobs: sample.map(|s| s.counts.pending + s.counts.processing),
            oldest_unfinished_at: sample
                .and_then(|sample| sample.oldest_unfinished.as_ref())
                .map(|moment| moment.at.clone()),
            rate_per_second: figures.as_ref().map_or(0.0, |figures| figures.rate),
        },
        waits: state.metrics.waits.now().iter().map(WaitView::from).collect(),
    })
}

/// A component by what was last reported of it and by what it answered just now, which counts more.
fn component_health(
    component: Component,
    reported: &ComponentReadiness,
    answers: &Answers,
    is_stopped: bool,
) -> ComponentHealth {
    let answer = match component {
        Component::Database => Some(answers.database.clone()),
        Component::Elasticsearch => answers
            .elasticsearch
            .as_ref()
            .map(|test| if test.success { Ok(test.latency) } else { Err(test.message.clone()) }),
        _ => None,
    };
    let latency = match (component, &answer) {
        (Component::Elasticsearch, _) => answers.elasticsearch.as_ref().map(|test| test.latency),
        (_, answer) => answer.as_ref().and_then(|answer| answer.as_ref().ok().copied()),
    };
    // A standby has not used Elasticsearch yet, so nothing is reported of it.
    let answers_now = component == Component::Elasticsearch && matches!(answer, Some(Ok(_)));
    let fails_now = matches!(answer, Some(Err(_)));
    let status = match reported.ok && !fails_now || answers_now {
        _ if is_stopped => "stopped",
        true => "up",
        false => "down",
    };
    let message = match answer {
        Some(Err(reason)) if reported.ok => reason,
        _ => reported.message.clone(),
    };
    ComponentHealth {
        status,
        since: time::iso8601(reported.since),
        latency: latency.map(|latency| milliseconds(latency.as_secs_f64() * 1000.0)),
        message,
        remedy: (status != "up").then(|| advice(component)),
    }
}

/// `GET test-connection`.
pub(in crate::api) async fn test_connection(
    extract::State(state): extract::State<ApiState>,
) -> Result<Json<ConnectionTest>, Problem> {
    let test = state.elasticsearch.test().await;
    if test.success {
        return Ok(Json(test));
    }
    let message = test.message.clone();
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let problem = Problem::new(status, "elasticsearch_unavailable", message.clone())
        .with("message", message)
        .with("latencyMs", test.latency_ms)
        .with("version", test.version)
        .with("cluster_name", test.cluster_name);
    // `status` is the HTTP status in a problem; the cluster's stands beside it.
    Err(problem.with("cluster_status", test.status))
}

async fn database_latency(state: &ApiState) -> Result<Duration, String> {
    let started = Instant::now();
    let answer = state.pool.read(async |client| {
        client.simple_query("select 1").await.map(drop).map_err(doing("ask for an answer"))
    });
    match timeout(ANSWER_TIME_MAX, answer).await {
        Ok(Ok(())) => Ok(started.elapsed()),
        Ok(Err(error)) => Err(Problem::from(error).sentence().to_owned()),
        Err(_) => Err("PostgreSQL does not answer within 3 s".to_owned()),
    }
}

/// The memory of this process, from `/proc/self/status`.
fn memory(held: &Memory) -> ProcessMemory {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    let bytes = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
    ProcessMemory {
        rss_bytes: of("VmRSS:"),
        peak_rss_bytes: of("VmHWM:"),
        held_bytes: bytes(held.held_from(MemoryPart::Stream)),
        limit_bytes: bytes(held.limit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_the_memory_of_this_process() {
        assert!(memory(&Memory::default()).rss_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
