//! Every part by itself, and whether Elasticsearch can be worked with: asked now, not remembered.
//!
//! Not here: the verdict on the whole (`crate::admin::health`), the queue's health (`overview`).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Number;
use tokio::time::{Instant, timeout};

use super::{overview, stats};
use crate::admin::pool;
use crate::api::server::time;
use crate::api::{PoolError, Problem, State};
use crate::engine::sink::ping;
use crate::engine::sink::ping::{Ping, PingError};
use crate::telemetry::readiness::Component;

/// A part that does not answer within this counts as down.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// However many ask, Elasticsearch is asked this often.
const TEST_AGE_MAX: Duration = Duration::from_millis(500);

/// The body of `GET health/detailed`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Detailed {
    /// `healthy`, `degraded` or `unhealthy`.
    status: &'static str,
    version: &'static str,
    /// Seconds.
    uptime: u64,
    started_at: String,
    memory: Memory,
    components: BTreeMap<&'static str, Part>,
    pipeline: Pipeline,
}

/// Of this process.
#[derive(Debug, Serialize, JsonSchema)]
struct Memory {
    rss_bytes: Option<u64>,
    peak_rss_bytes: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Part {
    /// `up`, `down` or `stopped`.
    status: &'static str,
    /// Since when.
    since: String,
    /// Milliseconds that an answer took just now; null where nobody can be asked.
    #[schemars(with = "Option<f64>")]
    latency: Option<Number>,
    message: String,
    /// What a person can do; null where all is well.
    remedy: Option<&'static str>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Pipeline {
    mode: String,
    lag_bytes: Option<i64>,
    retained_bytes: Option<i64>,
    safe_bytes: Option<i64>,
    unfinished_jobs: Option<i64>,
    oldest_unfinished_at: Option<String>,
    rate_per_second: f64,
}

/// The body of `GET test-connection`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct Tested {
    success: bool,
    message: String,
    version: Option<String>,
    #[serde(rename = "cluster_name")]
    cluster_name: Option<String>,
    /// `green`, `yellow` or `red`; `unknown` where walferry may not ask.
    status: Option<String>,
    #[schemars(with = "f64")]
    latency_ms: Number,
}

/// `GET health/detailed`.
pub(in crate::api) async fn detailed(
    extract::State(state): extract::State<State>,
) -> Json<Detailed> {
    let (database, elasticsearch) = tokio::join!(database_latency(&state), test(&state));
    let (figures, readiness) = (state.sampler.now().await, state.status.now());
    let overview = overview::look(&state, &figures);
    let sample = figures.as_ref().ok().map(|figures| &figures.sample);
    let stopped = sample.is_some_and(|sample| !sample.indexing);
    let components = readiness.iter().map(|(component, part)| {
        let (latency, broken) = match component {
            Component::Database => (database.as_ref().ok().copied(), database.is_err()),
            Component::Elasticsearch if state.elasticsearch.is_some() => {
                (Some(elasticsearch.1), !elasticsearch.0.success)
            }
            _ => (None, false),
        };
        let status = match component {
            Component::Mode if stopped => "stopped",
            _ if part.ok && !broken => "up",
            // Nobody has used it yet, as on a standby; it was asked just now.
            Component::Elasticsearch if latency.is_some() && !broken => "up",
            _ => "down",
        };
        // What was asked just now knows better than what was last reported.
        let message = match (component, &database) {
            (Component::Elasticsearch, _) if part.ok && broken => elasticsearch.0.message.clone(),
            (Component::Database, Err(reason)) if part.ok => reason.clone(),
            _ => part.message.clone(),
        };
        let part = Part {
            status,
            since: time::iso8601(part.since),
            latency: latency.map(milliseconds),
            message,
            remedy: (status != "up").then(|| crate::admin::health::advice(component)),
        };
        (component.as_str(), part)
    });
    let slot = sample.and_then(|sample| sample.slot.known());
    Json(Detailed {
        status: overview.health.status,
        version: env!("CARGO_PKG_VERSION"),
        uptime: state.started.1.elapsed().as_secs(),
        started_at: time::iso8601(state.started.0),
        memory: memory(),
        components: components.collect(),
        pipeline: Pipeline {
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
    })
}

/// `GET test-connection`.
pub(in crate::api) async fn test_connection(
    extract::State(state): extract::State<State>,
) -> Result<Json<Tested>, Problem> {
    let (tested, _) = test(&state).await;
    if tested.success {
        return Ok(Json(tested));
    }
    let message = tested.message.clone();
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut problem = Problem::new(status, "elasticsearch_unavailable", message.clone());
    problem = problem.with("message", message).with("latencyMs", tested.latency_ms);
    let members = [("version", tested.version), ("cluster_name", tested.cluster_name)];
    for (name, value) in members {
        problem = problem.with(name, value);
    }
    // `status` is the HTTP status in a problem; the cluster's stands beside it.
    Err(problem.with("cluster_status", tested.status))
}

/// Asks the configured Elasticsearch, or takes an answer of just now.
async fn test(state: &State) -> (Tested, Duration) {
    let mut last = state.tested.lock().await;
    if let Some((at, tested, took)) = &*last
        && at.elapsed() < TEST_AGE_MAX
    {
        return (tested.clone(), *took);
    }
    let started = Instant::now();
    let answer = match &state.elasticsearch {
        None => Err("no Elasticsearch is configured; set ELASTICSEARCH_URL".to_owned()),
        Some(client) => match timeout(ANSWER_MAX, ping::ping(client)).await {
            Ok(Ok(ping)) => Ok(ping),
            Ok(Err(PingError::Red { ping })) => {
                Err(format!("cluster {} is red: some documents have no node", ping.cluster_name))
            }
            Ok(Err(error)) => Err(crate::postgres::error::sentence(&error)),
            Err(_) => Err("Elasticsearch does not answer within 3 s".to_owned()),
        },
    };
    let took = started.elapsed();
    let latency_ms = milliseconds(took);
    let tested = match answer {
        Ok(Ping { version, cluster_name, status }) => Tested {
            success: true,
            message: "Elasticsearch connection successful".to_owned(),
            version: Some(version),
            cluster_name: Some(cluster_name),
            status: Some(status),
            latency_ms,
        },
        Err(message) => Tested {
            success: false,
            message,
            version: None,
            cluster_name: None,
            status: None,
            latency_ms,
        },
    };
    *last = Some((Instant::now(), tested.clone(), took));
    (tested, took)
}

async fn database_latency(state: &State) -> Result<Duration, String> {
    let started = Instant::now();
    let look = async {
        let lent = state.pool.lend().await?;
        lent.simple_query("select 1").await?;
        lent.give_back();
        Ok::<_, PoolError>(())
    };
    match timeout(ANSWER_MAX, pool::in_time(look)).await {
        Ok(Ok(())) => Ok(started.elapsed()),
        Ok(Err(error)) => Err(stats::problem(&error).sentence().to_owned()),
        Err(_) => Err("PostgreSQL does not answer within 3 s".to_owned()),
    }
}

fn milliseconds(time: Duration) -> Number {
    stats::milliseconds(time.as_secs_f64() * 1000.0)
}

/// What the kernel says of this process (`/proc/self/status`).
fn memory() -> Memory {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    Memory { rss_bytes: of("VmRSS:"), peak_rss_bytes: of("VmHWM:") }
}

/// When this process began, by both clocks.
pub(in crate::api) fn now() -> (SystemTime, Instant) {
    (SystemTime::now(), Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_test_is_the_documented_one() {
        let tested = Tested {
            success: true,
            message: "Elasticsearch connection successful".to_owned(),
            version: Some("9.5.3".to_owned()),
            cluster_name: Some("shop".to_owned()),
            status: Some("green".to_owned()),
            latency_ms: milliseconds(Duration::from_micros(3500)),
        };
        let expected = concat!(
            r#"{"success":true,"message":"Elasticsearch connection successful","version":"9.5.3","#,
            r#""cluster_name":"shop","status":"green","latencyMs":3.5}"#,
        );
        assert_eq!(serde_json::to_string(&tested).unwrap(), expected);
    }

    #[test]
    fn the_kernel_knows_our_memory() {
        assert!(memory().rss_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
