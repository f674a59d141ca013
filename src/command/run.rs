//! `walferry run`: the pipeline and the HTTP server, side by side until either ends.
//!
//! Not here: the pipeline (`engine::run`), the server (`api`).

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::api::state::{ApiParts, ApiState};
use crate::config::Config;
use crate::engine::document::parse;
use crate::engine::run::{self, Context, ContextParts, RunError, RunOptions};
use crate::engine::supervisor::requests::OperatorRequests;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::ReadinessReporter;

/// Serves HTTP and runs until shutdown, or, with `once`, until caught up.
///
/// # Errors
/// [`RunError`] for what does not heal by itself; everything else is waited out.
pub(super) async fn run(
    config: Config,
    options: RunOptions,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let definition = Arc::new(parse::parse(config.definition.as_ref())?);
    let address = config.listen;
    if !address.ip().is_loopback() && !config.api.authenticates() {
        tracing::warn!(
            event = "listening_openly",
            %address,
            "other machines can reach this server and nobody is asked who they are"
        );
    }
    let listener =
        TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
    tracing::info!(event = "listening", %address, "listening");
    let metrics = Metrics::new();
    let status = ReadinessReporter::new();
    let operator_requests = OperatorRequests::default();
    let config = Arc::new(config);
    let state = ApiState::new(ApiParts {
        config: Arc::clone(&config),
        definition: Arc::clone(&definition),
        status: status.clone(),
        metrics: metrics.clone(),
        operator_requests: operator_requests.clone(),
    });
    let context = Context::new(ContextParts {
        config,
        definition,
        metrics,
        status,
        options,
        operator_requests,
    });
    let stop_serving = CancellationToken::new();
    let mut server = tokio::spawn(api::serve(listener, state, stop_serving.clone()));
    tokio::select! {
        ended = run::run(&context, &shutdown) => {
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
