//! The half of a run that needs Elasticsearch: it is prepared as soon as it answers, while the
//! stream is captured meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{Context, Fault};
use crate::ack::batch::PendingBatch;
use crate::ack::in_flight::InFlight;
use crate::change::{Lsn, TableId};
use crate::engine::document::shape::Shapes;
use crate::engine::feed;
use crate::engine::feed::action::SinkCommand;
use crate::engine::feed::control::FeedControl;
use crate::engine::feed::emit::Emitter;
use crate::engine::feed::render::Renderer;
use crate::engine::feed::render::read::RowReader;
use crate::engine::feed::render::stored::StoredReadAhead;
use crate::engine::feed::source::external::ExternalPosition;
use crate::engine::feed::source::load::FirstLoad;
use crate::engine::feed::source::table::JobSource;
use crate::engine::feed::{Feed, FeedCore, Mode};
use crate::engine::recorder::LiveRequest;
use crate::engine::sink;
use crate::engine::sink::index;
use crate::engine::sink::index::{IndexSpec, Preparation};
use crate::engine::sink::{Sink, Target, client, ping, state};
use crate::storage::lease::Lease;
use crate::storage::load_progress;
use crate::storage::load_progress::LoadProgress;
use crate::storage::position::{Settlement, StoredPosition};
use crate::storage::queue::claim::Claimer;
use crate::storage::schema::take_over_state;
use crate::telemetry::readiness::{Component, Status};

/// Actions on their way to the sink; their bytes are bounded by themselves.
const COMMANDS_MAX: usize = 4096;
/// How often it is looked whether the first load has settled.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
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
    pub control: Arc<Client>,
    pub reader: Arc<Client>,
    pub claims: Claimer,
    pub settled: mpsc::Sender<Arc<PendingBatch>>,
    pub requests: mpsc::Sender<LiveRequest>,
    pub mode: watch::Sender<Mode>,
    pub caught_up: watch::Sender<bool>,
    pub halted: watch::Receiver<bool>,
    /// True once searches see what was loaded.
    pub loaded: watch::Sender<bool>,
    pub alive: InFlight,
    pub stop: CancellationToken,
}

pub(super) async fn run(indexing: Indexing) -> Result<(), Fault> {
    let config = Arc::clone(&indexing.context.config);
    let elasticsearch = client::Client::new(&config.elasticsearch);
    let elasticsearch = Arc::new(elasticsearch.map_err(|error| Fault::permanent(&error))?);
    let targets = tokio::select! {
        () = indexing.stop.cancelled() => return Ok(()),
        targets = prepare(&indexing, &elasticsearch) => targets?,
    };
    indexing.context.status.ok(Component::Indices, "ready");
    let loads = loads(&indexing, &targets).await?;
    let (commands, received) = mpsc::channel(COMMANDS_MAX);
    let refresh = config.elasticsearch.refresh;
    let state = Arc::clone(&indexing.state);
    let sink =
        Sink::new(Arc::clone(&elasticsearch), targets.clone(), &config.limits, refresh, state);
    let caught_up = indexing.caught_up.subscribe();
    let give_up = CancellationToken::new();
    let sink = sink::run(sink, received, indexing.settled.clone(), caught_up, give_up.clone());
    let sink = async { sink.await.map_err(Fault::from) };
    let mode = indexing.mode.subscribe();
    let swap = Swap::new(&indexing, &elasticsearch, &targets);
    let stop = indexing.stop.clone();
    let swap = async {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            swapped = swap.when_loaded(mode) => swapped,
        }
    };
    let service = indexing.state.service();
    let feed = indexing.into_feed(loads, &targets, commands);
    let feed = async {
        feed::run(feed).await?;
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
        let Context { config, definition, metrics, operator_requests, .. } = self.context;
        let renderer = Renderer::new(
            definition,
            self.shapes.clone(),
            targets.iter().map(|target| target.base).collect(),
            RowReader::new(self.reader, self.shapes),
            StoredReadAhead::new(
                Arc::clone(&self.control),
                self.lease,
                self.settlement.read_ahead_lsn,
            ),
        );
        let emitter = Emitter::new(commands, self.settled, config.limits.actions_bytes_max);
        let control = FeedControl::new(
            self.mode,
            self.caught_up,
            self.halted,
            self.requests,
            operator_requests.feed,
            self.stop,
        );
        let recorded = self.stored.recorded;
        let external = ExternalPosition::new(Arc::clone(&self.control), recorded);
        Feed::new(
            FeedCore::new(renderer, emitter, control, metrics.pipeline),
            FirstLoad::new(loads, self.control),
            JobSource::new(self.claims, self.alive, external, recorded),
        )
    }
}

/// Indices, mappings and aliases, as soon as Elasticsearch lets us.
async fn prepare(
    indexing: &Indexing,
    elasticsearch: &client::Client,
) -> Result<Vec<Target>, Fault> {
    let (context, stored) = (&indexing.context, &indexing.stored);
    let specs: Vec<IndexSpec> = context
        .definition
        .indices
        .iter()
        .map(|index| IndexSpec {
            name: index.name.clone(),
            settings: index.settings.clone(),
            mappings: index.mappings.clone(),
        })
        .collect();
    let replaces = take_over_state::replaces_indices(&indexing.control, &indexing.lease.slot).await;
    let replaces_original = replaces?;
    let mut told = String::new();
    loop {
        let preparation = Preparation {
            prefix: &context.config.index_prefix,
            epoch: indexing.lease.epoch,
            generation: u32::try_from(stored.generation).unwrap_or(1),
            // Below every change that is still to be indexed.
            base: Lsn(indexing.confirmed.0.saturating_sub(8) & !7),
            system_identifier: &stored.system_identifier,
            timeline: u32::try_from(stored.timeline).unwrap_or_default(),
            replaces_original,
        };
        match attempt(elasticsearch, &specs, preparation, &indexing.mode).await {
            Ok(targets) => {
                context.status.ok(Component::Elasticsearch, "answers");
                context.metrics.sink.set_up(true);
                context.note_ready();
                return Ok(targets);
            }
            Err(fault @ Fault::Permanent(_)) if !context.was_ready() => return Err(fault),
            Err(fault) => {
                let sentence = fault.to_string();
                indexing.mode.send_replace(Mode::Starting);
                context.status.fault(Component::Elasticsearch, sentence.clone());
                context.metrics.sink.set_up(false);
                if sentence != told {
                    tracing::warn!(
                        event = "sink_awaited",
                        error = sentence,
                        "waiting for Elasticsearch"
                    );
                    told = sentence;
                }
                tokio::time::sleep(PREPARE_AGAIN).await;
            }
        }
    }
}

async fn attempt(
    elasticsearch: &client::Client,
    specs: &[IndexSpec],
    preparation: Preparation<'_>,
    mode: &watch::Sender<Mode>,
) -> Result<Vec<Target>, Fault> {
    ping::ping(elasticsearch).await?;
    // A busy cluster takes its time over aliases: the stream waits rather than run ahead.
    mode.send_replace(Mode::Preparing);
    Ok(index::prepare(elasticsearch, specs, preparation).await?)
}

/// Which tables are still to be loaded into the indices that are there now.
async fn loads(
    indexing: &Indexing,
    targets: &[Target],
) -> Result<Vec<(TableId, LoadProgress)>, Fault> {
    let definition = &indexing.context.definition;
    let known = load_progress::read(&indexing.control, &indexing.lease.slot).await;
    let known = known?;
    let (mut unfinished, mut begun) = (Vec::new(), Vec::new());
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
                pipeline.set_load_estimate(label, estimate(&indexing.control, &name).await?);
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
    let stored = load_progress::begin(&indexing.control, &indexing.lease, &begun).await;
    stored?;
    Ok(unfinished)
}

/// What PostgreSQL's statistics say of a table's rows.
async fn estimate(client: &Client, table: &str) -> Result<i64, Fault> {
    let sql = "select greatest(c.reltuples, 0)::bigint as rows from pg_catalog.pg_class c
        where c.oid = pg_catalog.to_regclass($1)";
    let row = client.query_opt(sql, &[&table]).await?;
    Ok(row.map_or(0, |row| row.get("rows")))
}

/// What the swap of aliases needs to know of the run.
struct Swap {
    elasticsearch: Arc<client::Client>,
    targets: Vec<Target>,
    control: Arc<Client>,
    slot: String,
    status: Status,
    loaded: watch::Sender<bool>,
}

impl Swap {
    fn new(indexing: &Indexing, elasticsearch: &Arc<client::Client>, targets: &[Target]) -> Self {
        Self {
            elasticsearch: Arc::clone(elasticsearch),
            targets: targets.to_vec(),
            control: Arc::clone(&indexing.control),
            slot: indexing.lease.slot.clone(),
            status: indexing.context.status.clone(),
            loaded: indexing.loaded.clone(),
        }
    }

    /// After the first load the read aliases point to what was loaded.
    async fn when_loaded(self, mut mode: watch::Receiver<Mode>) -> Result<(), Fault> {
        let Self { elasticsearch, targets, control, slot, status, loaded } = self;
        status.ok(Component::Load, "loading");
        if mode.wait_for(|mode| matches!(mode, Mode::Table | Mode::Live)).await.is_err() {
            return Ok(());
        }
        // The last chunks have been sent; searches must not be led to an index without them.
        loop {
            let loads = load_progress::read(&control, &slot).await?;
            let ours = |uuid: &String| targets.iter().any(|target| target.uuid == *uuid);
            if loads.iter().all(|load| load.done || !load.index_uuids.iter().all(ours)) {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        while let Err(error) = index::swap_read_aliases(&elasticsearch, &targets).await {
            status.fault(Component::Load, format!("loaded, but searches do not see it: {error}"));
            tracing::warn!(
                event = "aliases_not_swapped", error = %error,
                "could not point the aliases to the new indices yet"
            );
            tokio::time::sleep(PREPARE_AGAIN).await;
        }
        let noted = take_over_state::note_replaced(&control, &slot).await;
        noted?;
        status.ok(Component::Load, "done");
        loaded.send_replace(true);
        Ok(())
    }
}
