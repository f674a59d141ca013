//! The HTTP server.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /livez` | 200 as long as the event loop turns; needs neither PostgreSQL nor Elasticsearch |
//! | `GET /readyz` | 200 when progress is possible, else 503; each component by name either way |
//! | `GET /metrics` | Prometheus text |
//! | `GET /api/v1/queue/stats` | the queue's figures, at most a second old |
//! | `POST /api/v1/queue/retry-failed` | stuck jobs are reset, failed ones `pending` again |
//! | `POST /api/v1/queue/clear` | finished jobs are deleted; unfinished ones stay |
//! | `POST /api/v1/queue/start`, `…/stop` | indexing goes on, or halts while capture goes on |
//! | `/api/v1/ai-suggestions/queue/…` | the same, under its original path |
//!
//! Each route of the queue stands under both prefixes. Every error, 404 and 405 included, is
//! `application/problem+json` ([`Problem`]).
//!
//! Invariants: the server has connections to PostgreSQL of its own, so it neither waits for the
//! pipeline nor slows it; it starts before PostgreSQL can be reached and stays when it can't;
//! bodies, heads, requests and connections have limits (`limits`, `listener`).
//!
//! Not here: who may do what. Until requests are authenticated, `config` lets the server listen
//! on loopback only.

mod limits;
mod listener;
mod operate;
mod pool;
mod probes;
mod problem;
mod stats;
mod time;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Database;
use crate::metrics::Metrics;
use crate::status::Status;
use crate::supervisor::desk::Desk;

pub use pool::{Pool, PoolError};
pub use problem::Problem;
pub use stats::Stats;

/// The queue's routes stand under each of these.
const QUEUE_PREFIXES: [&str; 2] = ["/api/v1/queue", "/api/v1/ai-suggestions/queue"];
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may take to end once the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// What the handlers share. Cloning shares it.
#[derive(Clone)]
pub struct State {
    pub(crate) status: Status,
    pub(crate) metrics: Metrics,
    pub(crate) pool: Pool,
    pub(crate) stats: Arc<stats::Cache>,
    pub(crate) slot: Arc<str>,
    pub(crate) desk: Desk,
}

impl State {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(
        status: Status,
        metrics: Metrics,
        database: Database,
        slot: String,
        desk: Desk,
    ) -> Self {
        let (pool, slot) = (Pool::new(database), slot.into());
        Self { status, metrics, pool, stats: Arc::default(), slot, desk }
    }
}

/// Answers requests until shutdown, then lets those under way end.
///
/// # Errors
///
/// The listener has no local address: it is not a listening socket.
pub async fn serve(
    listener: TcpListener,
    state: State,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let listener = listener::Limited::new(listener);
    let stop = shutdown.clone().cancelled_owned();
    let serving = axum::serve(listener, router(state)).with_graceful_shutdown(stop);
    tokio::select! {
        ended = serving.into_future() => ended,
        () = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        } => Ok(()),
    }
}

fn router(state: State) -> Router {
    let queue = Router::new()
        .route("/stats", get(stats::get))
        .route("/retry-failed", post(operate::retry_failed))
        .route("/clear", post(operate::clear))
        .route("/start", post(operate::start))
        .route("/stop", post(operate::stop));
    let mut router = Router::new()
        .route("/livez", get(probes::live))
        .route("/readyz", get(probes::ready))
        .route("/metrics", get(probes::metrics));
    for prefix in QUEUE_PREFIXES {
        router = router.nest(prefix, queue.clone());
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(state.clone(), limits::guard))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}

async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such route")
}

async fn no_method(method: Method) -> Problem {
    let detail = format!("this route does not answer {method}; the Allow header says what it does");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
