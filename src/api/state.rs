//! What every handler of the HTTP server shares.
//!
//! Not here: the routes (`routes`), and the server itself (the parent).

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::auth::access::AccessControl;
use super::server::denials::Denials;
use super::server::reads::Reads;
use super::server::streams::Streams;
use crate::admin::audited::ACTIONS;
use crate::admin::elasticsearch::ElasticsearchProbe;
use crate::admin::figures::sampler::Sampler;
use crate::admin::pool::Pool;
use crate::admin::record::view::RecordReader;
use crate::config::Config;
use crate::engine::document::definition::Definition;
use crate::engine::sink::client::Client;
use crate::engine::supervisor::requests::OperatorRequests;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::ReadinessReporter;

/// How long Elasticsearch may take over an answer to the API.
const ELASTICSEARCH_TIME_MAX: Duration = Duration::from_secs(3);

/// What the server is made of.
#[derive(Clone, Debug)]
pub struct ApiParts {
    pub config: Arc<Config>,
    pub definition: Arc<Definition>,
    pub status: ReadinessReporter,
    pub metrics: Metrics,
    pub operator_requests: OperatorRequests,
}

/// What the handlers share. Cloning shares it.
#[derive(Clone)]
pub struct ApiState(Arc<SharedState>);

/// The contents of [`ApiState`].
pub struct SharedState {
    pub(in crate::api) status: ReadinessReporter,
    pub(in crate::api) metrics: Metrics,
    pub(in crate::api) access: AccessControl,
    pub(in crate::api) pool: Pool,
    pub(in crate::api) sampler: Sampler,
    pub(in crate::api) slot: Arc<str>,
    pub(in crate::api) operator_requests: OperatorRequests,
    pub(in crate::api) definition: Arc<Definition>,
    /// Names of the definition's tables, in its order.
    pub(in crate::api) tables: Vec<String>,
    pub(in crate::api) records: RecordReader,
    pub(in crate::api) elasticsearch: ElasticsearchProbe,
    /// Denied attempts that are not reported one by one.
    pub(in crate::api) denials: Mutex<Denials>,
    /// Reads that were written to the audit log within a minute.
    pub(in crate::api) reads: Mutex<Reads>,
    /// One permit to write denied attempts to the audit log.
    pub(in crate::api) denial_writes: Arc<Semaphore>,
    /// The places of event streams.
    pub(in crate::api) streams: Streams,
    pub(in crate::api) started_at: SystemTime,
    pub(in crate::api) started: Instant,
    /// Cancelled when the server stops.
    pub(in crate::api) stop: CancellationToken,
}

impl std::ops::Deref for ApiState {
    type Target = SharedState;

    fn deref(&self) -> &SharedState {
        &self.0
    }
}

impl ApiState {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(parts: ApiParts) -> Self {
        let ApiParts { config, definition, status, metrics, operator_requests } = parts;
        metrics.http.declare(&ACTIONS);
        let slot: Arc<str> = Arc::from(config.slot.as_str());
        let pool = Pool::new(config.database.clone());
        let tables: Vec<String> =
            definition.tables.iter().map(|table| table.name.clone()).collect();
        let elasticsearch = elasticsearch(&config);
        let indices = definition.indices.iter();
        let names =
            indices.map(|index| format!("{}{}-0", config.index_prefix, index.name)).collect();
        let database = config.database.clone();
        Self(Arc::new(SharedState {
            access: AccessControl::new(&config.api),
            sampler: Sampler::new(database, Arc::clone(&slot), status.clone(), metrics.clone()),
            records: RecordReader {
                pool: pool.clone(),
                definition: Arc::clone(&definition),
                tables: tables.clone(),
                elasticsearch: elasticsearch.clone(),
                row_bytes_max: config.limits.row_bytes_max,
                index_prefix: config.index_prefix.clone(),
            },
            status,
            metrics,
            pool,
            slot,
            operator_requests,
            tables,
            definition,
            elasticsearch: ElasticsearchProbe::new(elasticsearch, names),
            denials: Mutex::default(),
            reads: Mutex::default(),
            denial_writes: Arc::new(Semaphore::new(1)),
            streams: Streams::default(),
            started_at: SystemTime::now(),
            started: Instant::now(),
            stop: CancellationToken::new(),
        }))
    }
}

/// `None` where none is configured. The engine reports settings that are wrong.
fn elasticsearch(config: &Config) -> Option<Arc<Client>> {
    let mut settings = config.elasticsearch.clone();
    settings.request_timeout = settings.request_timeout.min(ELASTICSEARCH_TIME_MAX);
    Client::new(&settings).ok().map(Arc::new)
}
