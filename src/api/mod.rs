//! The HTTP server.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /`, `/assets/…` | the admin page |
//! | `GET /livez` | 200 as long as the event loop turns; needs neither PostgreSQL nor Elasticsearch |
//! | `GET /readyz` | 200 when progress is possible, else 503; each component by name either way |
//! | `GET /metrics` | Prometheus text |
//! | `GET /openapi.json` | the description of all routes |
//! | `GET /api/v1/session` | who asks, and whether anybody must say so |
//! | `GET Q/stats`, `Q/health` | the queue's figures, of now; whether it does well |
//! | `GET Q/jobs`, `Q/jobs/{id}` | jobs by filter and page; one job column by column |
//! | `GET Q/events` | overviews and news of jobs as server-sent events |
//! | `POST Q/retry-failed`, `Q/clear` | stuck and failed jobs are `pending` again; finished ones deleted |
//! | `POST Q/start`, `Q/stop` | indexing goes on, or halts while capture goes on |
//! | `POST Q/jobs/{id}/retry`, `…/discard` | one failed job |
//! | `POST Q/operations/retry`, `…/discard` | failed jobs by filter, with a dry run |
//! | `GET /api/v1/overview` | one look at everything |
//! | `GET /api/v1/records/{table}/{record_id}` | a record's jobs, row and documents, and whether they differ |
//! | `POST …/resync` | its documents are rendered anew |
//! | `GET /api/v1/audit` | who did what |
//! | `GET /api/v1/health/detailed` | every part by itself |
//! | `GET /api/v1/elasticsearch/test-connection` | whether Elasticsearch can be worked with |
//!
//! `Q` is `/api/v1/queue` and, for the page of the replaced system, `/api/v1/ai-suggestions/queue`.
//! [`route`] is the one table of them. Every error, 404 and 405 included, is
//! `application/problem+json` ([`Problem`]).
//!
//! Invariants: the server has connections to PostgreSQL of its own, so it neither waits for the
//! pipeline nor slows it; it starts before PostgreSQL can be reached and stays when it can't;
//! bodies, heads, requests and connections have limits (`limits`, `listener`); who asks (`auth`) and
//! from which page (`site`) is settled before a route is reached.

pub mod auth;
mod page;
pub mod routes;
pub mod server;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::figures::sampler::Sampler;
use crate::api::routes::{Place, audited, events, health, routes};
use crate::api::server::{limits, listener, origin};
use crate::config::Config;
use crate::engine::document::definition::Definition;
use crate::engine::document::id::DocumentId;
use crate::engine::sink::client::Client;
use crate::engine::supervisor::requests::OperatorRequests;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::ReadinessReporter;
use auth::AccessControl;
use auth::authorize::authorize;

pub use crate::admin::pool::{Pool, PoolError};
pub use crate::api::routes::stats::Stats;
pub use crate::api::server::problem::Problem;

/// The queue's routes stand under each of these.
pub const QUEUE_PREFIXES: [&str; 2] = ["/api/v1/queue", "/api/v1/ai-suggestions/queue"];
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may take to end once the server stops.
const GRACE: Duration = Duration::from_secs(2);
/// How long Elasticsearch may take over an answer to the API.
const ELASTICSEARCH_TIME_MAX: Duration = Duration::from_secs(3);

/// What the server is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    pub config: Arc<Config>,
    pub definition: Arc<Definition>,
    pub status: ReadinessReporter,
    pub metrics: Metrics,
    pub operator_requests: OperatorRequests,
}

/// What the handlers share. Cloning shares it.
#[derive(Clone)]
pub struct State(Arc<Shared>);

/// See [`State`].
pub struct Shared {
    status: ReadinessReporter,
    metrics: Metrics,
    access: AccessControl,
    pool: Pool,
    sampler: Sampler,
    slot: Arc<str>,
    operator_requests: OperatorRequests,
    definition: Arc<Definition>,
    index_prefix: String,
    /// Names of the definition's tables, in its order.
    tables: Vec<String>,
    /// `None` where none is configured.
    elasticsearch: Option<Client>,
    /// The last test of it, when, and how long it took.
    tested: Mutex<Option<(Instant, health::Tested, Duration)>>,
    /// One place for writing down who was denied what.
    denials: Arc<Semaphore>,
    /// Places for streams.
    streams: Arc<Semaphore>,
    started: (SystemTime, Instant),
    stop: CancellationToken,
}

impl std::ops::Deref for State {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl State {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { config, definition, status, metrics, operator_requests } = parts;
        metrics.http.declare(&audited::ACTIONS);
        let (pool, slot) = (Pool::new(config.database.clone()), Arc::from(config.slot.as_str()));
        let mut settings = config.elasticsearch.clone();
        settings.request_timeout = settings.request_timeout.min(ELASTICSEARCH_TIME_MAX);
        // What is wrong with the settings, the pipeline tells.
        let elasticsearch = Client::new(&settings).ok();
        Self(Arc::new(Shared {
            access: AccessControl::new(&config.api),
            sampler: Sampler::new(
                config.database.clone(),
                Arc::clone(&slot),
                status.clone(),
                metrics.clone(),
            ),
            status,
            metrics,
            pool,
            slot,
            operator_requests,
            tables: definition.tables.iter().map(|table| table.name.clone()).collect(),
            definition,
            index_prefix: config.index_prefix.clone(),
            elasticsearch,
            tested: Mutex::default(),
            denials: Arc::new(Semaphore::new(1)),
            streams: Arc::new(Semaphore::new(events::CLIENTS_MAX)),
            started: health::now(),
            stop: CancellationToken::new(),
        }))
    }
}

impl Shared {
    /// The index that a document is in.
    fn index(&self, document: &DocumentId) -> String {
        let index = &self.definition.indices[usize::from(document.index.0)];
        format!("{}{}", self.index_prefix, index.name)
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
    let (stop, looks) = (state.stop.clone(), state.clone());
    let service = router(state).into_make_service_with_connect_info::<listener::Peer>();
    let serving =
        axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::select! {
        ended = serving.into_future() => ended,
        () = looks.sampler.run() => Ok(()),
        () = async {
            shutdown.cancelled().await;
            stop.cancel();
            tokio::time::sleep(GRACE).await;
        } => Ok(()),
    }
}

fn router(state: State) -> Router {
    let mut router = page::routes();
    for route in routes() {
        let prefixes: &[&str] = match route.place {
            Place::Root => &[""],
            Place::Queue => &QUEUE_PREFIXES,
        };
        let access = (state.clone(), route.access.role());
        let handler = route.handler.route_layer(middleware::from_fn_with_state(access, authorize));
        for prefix in prefixes {
            router = router.route(&format!("{prefix}{}", route.path), handler.clone());
        }
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(state.clone(), origin::protect))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), limits::guard))
        .with_state(state)
}

async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such route")
}

async fn no_method(method: Method) -> Problem {
    let detail = format!("this route does not answer {method}; the Allow header says what it does");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
