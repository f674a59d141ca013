//! The half of a run that needs Elasticsearch. It is prepared as soon as Elasticsearch answers; the
//! stream is captured meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;
use tokio_util::sync::CancellationToken;

use super::alias_swap::AliasSwap;
use super::{Context, Fault};
use crate::ack::batch::PendingBatch;
use crate::ack::in_flight::InFlight;
use crate::change::{Lsn, TableId};
use crate::engine::control::{Control, FanoutSettlements, IndexingReport};
use crate::engine::document::definition::{Definition, IndexDefinition};
use crate::engine::document::shape::Shapes;
use crate::engine::feed;
use crate::engine::feed::action::SinkCommand;
use crate::engine::feed::control::FeedControl;
use crate::engine::feed::emit::Emitter;
use crate::engine::feed::render::Renderer;
use crate::engine::feed::render::read::RowReader;
use crate::engine::feed::render::stored::StoredReadAhead;
use crate::engine::feed::source::background::BackgroundFanouts;
use crate::engine::feed::source::external::ExternalPosition;
use crate::engine::feed::source::load::FirstLoad;
use crate::engine::feed::source::operation::{OperationChunk, OperationChunks};
use crate::engine::feed::source::table::{BetweenBatches, JobSource};
use crate::engine::feed::{Feed, FeedCore};
use crate::engine::recorder::LiveRequest;
use crate::engine::sink;
use crate::engine::sink::index;
use crate::engine::sink::index::{IndexSpec, Preparation};
use crate::engine::sink::{Sink, Target, client, ping, privileges, state};
use crate::storage::lease::Lease;
use crate::storage::load_progress;
use crate::storage::load_progress::LoadProgress;
use crate::storage::position::{Settlement, StoredPosition};
use crate::storage::queue::claim::Claimer;
use crate::storage::schema::take_over_state;
use crate::telemetry::mode::FeedMode;
use crate::telemetry::readiness::Component;
use crate::telemetry::waits::WaitName;

/// Actions on their way to the sink. The emitter bounds their bytes.
const COMMANDS_MAX: usize = 4096;
/// Between two attempts to prepare Elasticsearch.
const PREPARE_AGAIN: Duration = Duration::from_secs(1);

/// What indexing starts with.
pub(super) struct Indexing {
    pub context: Context,
    pub state: Arc<state::SinkState>,
    pub lease: Lease,
    pub stored: StoredPosition,
    pub settlement: Settlement,
    pub confirmed: Lsn,
    pub shapes: Shapes,
    /// The session for progress, read-ahead and positions.
    pub session: Arc<Client>,
    pub reader: Arc<Client>,
    pub claims: Claimer,
    pub settled: mpsc::Sender<Arc<PendingBatch>>,
    pub requests: mpsc::Sender<LiveRequest>,
    pub report: watch::Sender<IndexingReport>,
    pub control: watch::Receiver<Control>,
    pub recorded_end: watch::Receiver<Lsn>,
    pub fanouts: watch::Receiver<FanoutSettlements>,
    /// Rows whose documents operations render anew.
    pub operations: mpsc::Receiver<OperationChunk>,
    pub in_flight: InFlight,
    pub stop: CancellationToken,
}

pub(super) async fn run(indexing: Indexing) -> Result<(), Fault> {
    let config = Arc::clone(&indexing.context.config);
    let elasticsearch = Arc::new(client::Client::new(&config.elasticsearch)?);
    let targets = tokio::select! {
        () = indexing.stop.cancelled() => return Ok(()),
        targets = prepare(&indexing, &elasticsearch) => targets?,
    };
    indexing.context.status.ok(Component::Indices, "ready");
    let waits = &indexing.context.metrics.waits;
    let loads = waits.during(WaitName::Progress, loads(&indexing, &targets)).await?;
    let (commands, received) = mpsc::channel(COMMANDS_MAX);
    let refresh = config.elasticsearch.refresh;
    let state = Arc::clone(&indexing.state);
    let metrics = &indexing.context.metrics;
    let client = Arc::clone(&elasticsearch);
    let sink = Sink::new(client, targets.clone(), &config.limits, refresh, state, metrics);
    let report = indexing.report.subscribe();
    let give_up = CancellationToken::new();
    let sink = sink::run(sink, received, indexing.settled.clone(), report, give_up.clone());
    let sink = async { sink.await.map_err(Fault::from) };
    let swap = AliasSwap {
        elasticsearch: Arc::clone(&elasticsearch),
        targets: targets.clone(),
        session: Arc::clone(&indexing.session),
        slot: indexing.lease.slot.clone(),
        status: indexing.context.status.clone(),
        report: indexing.report.clone(),
    };
    let stop = indexing.stop.clone();
    let swap = async {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            swapped = swap.when_loaded() => swapped,
        }
    };
    let service = indexing.state.service();
    let feed = indexing.into_feed(loads, &targets, commands);
    let feed = async {
        Box::pin(feed::run(feed)).await?;
        // What waits for Elasticsearch to come back is the next start's.
        if matches!(*service.borrow(), state::ServiceStatus::Down { .. }) {
            give_up.cancel();
        }
        Ok(())
    };
    tokio::try_join!(feed, sink, swap).map(drop)
}

impl Indexing {
    /// The feed of this run. Everything else that this half of the run holds is dropped, so that
    /// the checkpoint ends after the feed and the sink.
    fn into_feed(
        self,
        loads: Vec<(TableId, LoadProgress)>,
        targets: &[Target],
        commands: mpsc::Sender<SinkCommand>,
    ) -> Feed {
        let slot = self.lease.slot.clone();
        let Context { config, definition, metrics, operator_requests, .. } = self.context;
        let mut reader = RowReader::new(self.reader, self.shapes.clone());
        reader.report_waits(metrics.waits.clone());
        reader.report_memory(&metrics.memory);
        reader.limit_rows(config.limits.row_bytes_max);
        let mut renderer = Renderer::new(
            definition,
            self.shapes,
            targets.iter().map(|target| target.base).collect(),
            reader,
            StoredReadAhead::new(
                Arc::clone(&self.session),
                self.lease,
                self.settlement.read_ahead_lsn,
                metrics.waits.clone(),
            ),
            config.limits.fanout_rows_max,
        );
        renderer.report_memory(&metrics.memory);
        let emitter = Emitter::new(
            commands,
            self.settled,
            config.limits.actions_bytes_max,
            metrics.waits.clone(),
            metrics.memory.clone(),
        );
        let control = FeedControl::new(
            self.report,
            self.control,
            self.requests,
            operator_requests.feed,
            self.state.closed(),
            self.stop,
        );
        let recorded = self.stored.recorded;
        let waits = metrics.waits.clone();
        let external = ExternalPosition::new(Arc::clone(&self.session), recorded, waits);
        let fanouts = BackgroundFanouts::new(Arc::clone(&self.session), slot, self.fanouts);
        let jobs = JobSource::new(
            self.claims,
            self.in_flight,
            external,
            BetweenBatches { fanouts, operations: OperationChunks::new(self.operations) },
            recorded,
            self.recorded_end,
        );
        Feed::new(
            FeedCore::new(renderer, emitter, control, metrics.pipeline),
            FirstLoad::new(loads, self.session),
            jobs,
        )
    }
}

/// Prepares indices, mappings and aliases as soon as Elasticsearch answers.
async fn prepare(
    indexing: &Indexing,
    elasticsearch: &client::Client,
) -> Result<Vec<Target>, Fault> {
    let context = &indexing.context;
    let stored = &indexing.stored;
    let specs = specs(&context.definition);
    let replaces = take_over_state::replaces_indices(&indexing.session, &indexing.lease.slot).await;
    let replaces_original = replaces?;
    let mut logged = String::new();
    let _wait = context.metrics.waits.begin(WaitName::Elasticsearch);
    loop {
        let server = server(&indexing.session).await?;
        let preparation = Preparation {
            prefix: &context.config.index_prefix,
            epoch: indexing.lease.epoch,
            generation: u32::try_from(stored.generation).unwrap_or(1),
            // Below every change that is still to be indexed.
            base: Lsn(indexing.confirmed.0.saturating_sub(8) & !7),
            system_identifier: &stored.system_identifier,
            timeline: u32::try_from(stored.timeline).unwrap_or_default(),
            database_oid: server.database_oid,
            database: &server.database,
            slot: &indexing.lease.slot,
            insert_lsn: server.insert_lsn,
            replaces_original,
        };
        match attempt(elasticsearch, &specs, preparation, &indexing.report).await {
            Ok(targets) => {
                context.status.ok(Component::Elasticsearch, "answers");
                context.metrics.sink.set_up(true);
                context.note_ready();
                log_lacking_privileges(elasticsearch, &targets).await;
                return Ok(targets);
            }
            Err(fault @ Fault::Permanent(_)) if !context.was_ready() => return Err(fault),
            Err(fault) => {
                let sentence = fault.to_string();
                indexing.report.send_modify(|report| report.mode = FeedMode::Starting);
                context.status.fault(Component::Elasticsearch, sentence.clone());
                context.metrics.sink.set_up(false);
                if sentence != logged {
                    tracing::warn!(
                        event = "sink_awaited",
                        error = sentence,
                        "waiting for Elasticsearch"
                    );
                    logged = sentence;
                }
                tokio::time::sleep(PREPARE_AGAIN).await;
            }
        }
    }
}

fn specs(definition: &Definition) -> Vec<IndexSpec> {
    let spec = |index: &IndexDefinition| IndexSpec {
        name: index.name.clone(),
        settings: index.settings.clone(),
        mappings: index.mappings.clone(),
    };
    definition.indices.iter().map(spec).collect()
}

/// What the indices are compared with.
struct SourceServer {
    database_oid: u32,
    database: String,
    insert_lsn: Lsn,
}

async fn server(session: &Client) -> Result<SourceServer, Fault> {
    let sql = "select d.oid as database_oid, d.datname::text as database,
            pg_catalog.pg_current_wal_insert_lsn() as insert_lsn
        from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()";
    let row = session.query_one(sql, &[]).await?;
    let insert_lsn: PgLsn = row.try_get("insert_lsn")?;
    Ok(SourceServer {
        database_oid: row.try_get("database_oid")?,
        database: row.try_get("database")?,
        insert_lsn: Lsn(insert_lsn.into()),
    })
}

/// A user that lacks a privilege may work for days, until a TRUNCATE needs it.
async fn log_lacking_privileges(elasticsearch: &client::Client, targets: &[Target]) {
    let aliases: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    for lacking in privileges::lacking(elasticsearch, &aliases).await.unwrap_or_default() {
        tracing::warn!(
            event = "privilege_lacking",
            privilege = lacking.privilege,
            indices = lacking.names.join(", "),
            "the user in Elasticsearch lacks a privilege; see `walferry check`"
        );
    }
}

async fn attempt(
    elasticsearch: &client::Client,
    specs: &[IndexSpec],
    preparation: Preparation<'_>,
    report: &watch::Sender<IndexingReport>,
) -> Result<Vec<Target>, Fault> {
    let concrete = |spec: &IndexSpec| index::concrete_name(spec, preparation);
    let indices: Vec<String> = specs.iter().map(concrete).collect();
    ping::ping(elasticsearch, &indices).await?;
    // A busy cluster takes its time over aliases: the stream waits rather than run ahead.
    report.send_modify(|report| report.mode = FeedMode::Preparing);
    Ok(index::prepare(elasticsearch, specs, preparation).await?)
}

/// The tables that are still to be loaded into the present indices.
async fn loads(
    indexing: &Indexing,
    targets: &[Target],
) -> Result<Vec<(TableId, LoadProgress)>, Fault> {
    let definition = &indexing.context.definition;
    let known = load_progress::read(&indexing.session, &indexing.lease.slot).await;
    let known = known?;
    let mut unfinished = Vec::new();
    let mut begun = Vec::new();
    for (number, declared) in (0_u16..).zip(&definition.tables) {
        let table = TableId(number);
        let uuids: BTreeSet<String> = definition
            .sources_of(table)
            .iter()
            .map(|source| targets[usize::from(source.index.0)].uuid.clone())
            .collect();
        let uuids: Vec<String> = uuids.into_iter().collect();
        let name = format!("{}.{}", declared.schema, declared.name);
        let before = known.iter().find(|l| l.table == name && l.index_uuids == uuids);
        let label = &indexing.context.tables[usize::from(number)];
        let pipeline = &indexing.context.metrics.pipeline;
        if !uuids.is_empty() {
            let (rows, done) = before.map_or((0, false), |load| (load.row_count, load.done));
            pipeline.set_load(label, rows, done);
            if !done {
                pipeline.set_load_estimate(label, estimate(&indexing.session, &name).await?);
            }
        }
        match before {
            _ if uuids.is_empty() => {}
            Some(load) if load.done => {}
            Some(load) => unfinished.push((table, load.clone())),
            None => {
                let load = LoadProgress {
                    table: name,
                    index_uuids: uuids,
                    load_lsn: indexing.confirmed,
                    load_xmax: None,
                    last_key: None,
                    row_count: 0,
                    done: false,
                };
                begun.push(load.clone());
                unfinished.push((table, load));
            }
        }
    }
    let stored = load_progress::begin(&indexing.session, &indexing.lease, &begun).await;
    stored?;
    Ok(unfinished)
}

/// The number of a table's rows in PostgreSQL's statistics.
async fn estimate(client: &Client, table: &str) -> Result<i64, Fault> {
    let sql = "select greatest(c.reltuples, 0)::bigint as rows from pg_catalog.pg_class c
        where c.oid = pg_catalog.to_regclass($1)";
    let row = client.query_opt(sql, &[&table]).await?;
    Ok(row.map_or(0, |row| row.get("rows")))
}
