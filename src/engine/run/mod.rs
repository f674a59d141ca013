//! The wiring of the stages, and the loop that starts them again after a fault.
//!
//! A run is one life of the pipeline between two faults. The next run starts from what is durable,
//! by the same path that a process takes after `kill -9`.

mod alias_swap;
mod channels;
mod fault;
mod indexing;
mod once;
mod prepare;
mod slot_creation;
mod spawn;
mod stages;
mod stores;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::document::definition::Definition;
use crate::engine::supervisor::requests::OperatorRequests;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::{Component, ReadinessReporter};
use crate::telemetry::throttle::LogThrottle;
use fault::Fault;
pub use fault::RunError;

/// The wait before a new run; doubles while runs are short.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// After a run of this length, the wait begins anew at the minimum.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Catch up with the WAL end at the start, then end.
    pub once: bool,
}

/// What the engine is made of.
pub struct ContextParts {
    pub config: Arc<Config>,
    pub definition: Arc<Definition>,
    pub metrics: Metrics,
    pub status: ReadinessReporter,
    pub options: RunOptions,
    pub operator_requests: OperatorRequests,
}

/// What every run of this process shares.
#[derive(Clone)]
pub struct Context {
    config: Arc<Config>,
    definition: Arc<Definition>,
    /// Labels of the tables and indices, in the definition's order.
    tables: Arc<[String]>,
    indices: Arc<[String]>,
    metrics: Metrics,
    status: ReadinessReporter,
    options: RunOptions,
    operator_requests: OperatorRequests,
    /// Elasticsearch was prepared once. From then on a refusal is waited out, since changes are
    /// captured and the slot's WAL is guarded only while the process runs.
    was_ready: Arc<AtomicBool>,
}

impl Context {
    fn was_ready(&self) -> bool {
        self.was_ready.load(Ordering::Relaxed)
    }

    fn note_ready(&self) {
        self.was_ready.store(true, Ordering::Relaxed);
    }
}

impl Context {
    /// What the engine works with. `labels` name the definition's tables and indices in metrics.
    #[must_use]
    pub fn new(parts: ContextParts) -> Self {
        let ContextParts { config, definition, metrics, status, options, operator_requests } =
            parts;
        let (tables, indices) = labels(&definition, &config.index_prefix);
        metrics.declare(&tables, &indices);
        metrics.memory.set_limit(config.limits.memory_max);
        metrics.run_ended(); // none has begun
        let was_ready = Arc::default();
        Self {
            config,
            definition,
            tables,
            indices,
            metrics,
            status,
            options,
            operator_requests,
            was_ready,
        }
    }
}

/// The names of tables and indices in metrics: those of queries against them.
fn labels(definition: &Definition, prefix: &str) -> (Arc<[String]>, Arc<[String]>) {
    let tables = definition.tables.iter().map(|table| match table.schema.as_str() {
        "public" => table.name.clone(),
        schema => format!("{schema}.{}", table.name),
    });
    let indices = definition.indices.iter().map(|index| format!("{prefix}{}", index.name));
    (tables.collect(), indices.collect())
}

/// Runs one pipeline after the other, until shutdown or until an operator must act.
///
/// # Errors
/// [`RunError::Environment`]: PostgreSQL or Elasticsearch needs an operator.
pub async fn run(context: &Context, shutdown: &CancellationToken) -> Result<(), RunError> {
    let mut wait = WAIT_MIN;
    let mut repeats = LogThrottle::default();
    loop {
        let started = Instant::now();
        let fault = match one_run(context, shutdown).await {
            Ok(()) => return Ok(()),
            Err(Fault::Permanent(error)) => return Err(error),
            Err(Fault::Passing(sentence)) => sentence,
        };
        if shutdown.is_cancelled() {
            return Ok(());
        }
        context.metrics.pipeline.restarted("fault");
        context.metrics.run_ended();
        context.status.fault(Component::Slot, fault.clone());
        if started.elapsed() > GOOD_RUN {
            wait = WAIT_MIN;
        }
        if let Some(held_back) = repeats.admit(Instant::now(), &fault) {
            tracing::warn!(event = "run_ended", error = fault, retry_in = ?wait, held_back, "run ended");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
        }
        wait = (wait * 2).min(WAIT_MAX);
    }
}

async fn one_run(context: &Context, shutdown: &CancellationToken) -> Result<(), Fault> {
    let prepared = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        prepared = prepare::prepare(context) => prepared?,
    };
    stages::run(context, prepared, shutdown).await
}
