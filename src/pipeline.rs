//! The wiring: the only place that knows two stages at once.
//!
//! A run is one life of the pipeline between two faults. Whatever ends it, the next one starts
//! from what is durable, by the same path that a process takes after `kill -9`.

mod fault;
mod indexing;
mod prepare;
mod stages;
mod stores;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::config::Config;
use crate::document::definition::Definition;
use crate::document::parse;
use crate::metrics::Metrics;
use crate::status::{Component, Repeats, Status};
use crate::supervisor::desk::Desk;
use fault::Fault;
pub use fault::RunError;

/// The wait before a new run; doubles while runs are short.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// A run that lived this long was a good one.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Catch up with the WAL end at the start, then end.
    pub once: bool,
}

/// What every run of this process shares.
#[derive(Clone)]
struct Context {
    config: Arc<Config>,
    definition: Arc<Definition>,
    /// Labels of the tables and indices, in the definition's order.
    tables: Arc<[String]>,
    indices: Arc<[String]>,
    metrics: Metrics,
    status: Status,
    options: RunOptions,
    desk: Desk,
    /// Elasticsearch was prepared once: what it refuses from then on is waited out, since changes
    /// are captured and the slot's WAL is guarded only while we run.
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

/// Serves HTTP and runs until told to stop, or, with `once`, until caught up.
///
/// # Errors
/// [`RunError`] for what does not heal by itself; everything else is waited out.
pub async fn run(
    config: Config,
    options: RunOptions,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let definition = Arc::new(parse::parse(config.definition.as_ref())?);
    let address = config.listen;
    if !address.ip().is_loopback() && !config.api.authenticates() {
        tracing::warn!(
            event = "listening_openly", %address,
            "other machines can reach this server and nobody is asked who they are"
        );
    }
    let listener =
        TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
    tracing::info!(event = "listening", %address, "listening");
    let (metrics, status) = (Metrics::new(), Status::new());
    let (desk, was_ready) = (Desk::default(), Arc::default());
    let config = Arc::new(config);
    let state = api::State::new(api::Parts {
        config: Arc::clone(&config),
        definition: Arc::clone(&definition),
        status: status.clone(),
        metrics: metrics.clone(),
        desk: desk.clone(),
    });
    let (tables, indices) = labels(&definition, &config.index_prefix);
    metrics.declare(&tables, &indices);
    metrics.run_ended(); // none has begun
    let context =
        Context { config, definition, tables, indices, metrics, status, options, desk, was_ready };
    let stop_serving = CancellationToken::new();
    let mut server = tokio::spawn(api::serve(listener, state, stop_serving.clone()));
    tokio::select! {
        ended = runs(&context, &shutdown) => {
            stop_serving.cancel();
            // Streams end with a last word; `serve` waits for no more than its own grace.
            drop(server.await);
            ended
        }
        served = &mut server => match served {
            Ok(Err(source)) => Err(RunError::Serve(source)),
            _ => Err(RunError::Serve(io::Error::other("it stopped by itself"))),
        },
    }
}

/// How metrics name the tables and indices: as whoever queries them does.
fn labels(definition: &Definition, prefix: &str) -> (Arc<[String]>, Arc<[String]>) {
    let tables = definition.tables.iter().map(|table| match table.schema.as_str() {
        "public" => table.name.clone(),
        schema => format!("{schema}.{}", table.name),
    });
    let indices = definition.indices.iter().map(|index| format!("{prefix}{}", index.name));
    (tables.collect(), indices.collect())
}

/// One run after the other.
async fn runs(context: &Context, shutdown: &CancellationToken) -> Result<(), RunError> {
    let (mut wait, mut repeats) = (WAIT_MIN, Repeats::default());
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
