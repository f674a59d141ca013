//! Spawns the stages and the duties of one run, each with its ends of the channels.
//!
//! Not here: watching and draining them (`stages`).

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channels::{Channels, Tokens};
use super::indexing::{self, Indexing};
use super::prepare::Prepared;
use super::stores::Stores;
use super::{Context, Fault};
use crate::ack::batch::PendingBatch;
use crate::change::TableId;
use crate::engine::checkpoint;
use crate::engine::checkpoint::{
    Checkpoint, CheckpointChannels, ReceivedPosition, SettlementMetrics,
};
use crate::engine::document::definition::SourceId;
use crate::engine::feed::source::operation::OperationChunk;
use crate::engine::recorder;
use crate::engine::recorder::{LiveRequest, Recorder, RecorderChannels, RecorderMetrics};
use crate::engine::sink::client;
use crate::engine::supervisor;
use crate::engine::supervisor::operation::settled::StagesSeen;
use crate::engine::supervisor::operation::{OperationParts, Operations};
use crate::engine::supervisor::operator_halt::OperatorHalt;
use crate::engine::supervisor::reporter::Reporter;
use crate::engine::supervisor::retention_guard::{RetentionGuard, default_limit};
use crate::engine::supervisor::sink_watch::SinkWatch;
use crate::engine::supervisor::slot_watch::SlotWatch;
use crate::engine::supervisor::{
    Supervisor, SupervisorChannels, operation, rescue, upkeep, wait_watch,
};
use crate::engine::wal;
use crate::engine::wal::{CapturedChunk, StreamSettings, StreamStats, StreamTable, Tables};
use crate::storage::queue::record;
use crate::storage::queue::rescue::Rescuer;
use crate::storage::queue::settle::Settler;

/// Chunks of captured changes between the stream and the recorder. With one, the next chunk grows
/// while the recorder is busy, and the recorder wakes once for many changes.
const CHUNKS_MAX: usize = 1;
/// Batches between the sink and the checkpoint.
const BATCHES_MAX: usize = 256;

/// The tasks of a run. Dropping them aborts them.
pub(super) struct Tasks {
    /// The tasks that end one after the other once nothing more is read.
    pub flow: JoinSet<Result<(), Fault>>,
    /// The duties, which end last.
    pub beside: JoinSet<Result<(), Fault>>,
    /// The stream, which closes once everything has settled.
    pub stream: JoinSet<Result<(), Fault>>,
}

/// Spawns every task of the run.
pub(super) async fn spawn(
    context: &Context,
    prepared: &mut Prepared,
    channels: &Channels,
    tokens: &Tokens,
) -> Result<Tasks, Fault> {
    let (chunks, changes) = mpsc::channel(CHUNKS_MAX);
    let (requests, live_requests) = mpsc::channel(1);
    let (settled, pending_batches) = mpsc::channel(BATCHES_MAX);
    let (operations, chunks_of_operations) = mpsc::channel(1);
    let stores = Stores::open(context, prepared).await?;
    let tasks = Tasks {
        flow: JoinSet::new(),
        beside: std::mem::take(&mut prepared.beside),
        stream: JoinSet::new(),
    };
    let stats = Arc::new(StreamStats::starting_at(prepared.start));
    let mut wiring = Wiring { context, prepared, channels, tokens, stats, tasks };

    wiring.spawn_recorder(stores.storage, changes, live_requests);
    wiring.spawn_checkpoint(stores.settler, pending_batches);
    let indexing = Indexing {
        context: context.clone(),
        state: Arc::clone(&channels.sink),
        lease: wiring.prepared.lease.clone(),
        stored: wiring.prepared.stored.clone(),
        settlement: wiring.prepared.settlement,
        confirmed: wiring.prepared.confirmed,
        shapes: wiring.prepared.shapes.clone(),
        session: Arc::clone(&stores.feed),
        reader: stores.reader,
        claims: stores.claims,
        settled,
        requests,
        report: channels.indexing.clone(),
        control: channels.control.subscribe(),
        recorded_end: channels.recorded_end.subscribe(),
        fanouts: channels.fanouts.subscribe(),
        operations: chunks_of_operations,
        in_flight: channels.in_flight.clone(),
        stop: tokens.stop.clone(),
    };
    wiring.tasks.flow.spawn(indexing::run(indexing));
    wiring.spawn_stream(stores.feed, Arc::clone(&stores.watch), chunks)?;
    wiring.spawn_supervisor(stores.watch).await?;
    wiring.spawn_duties(stores.rescuer);
    wiring.spawn_operations(stores.operate, operations)?;
    Ok(wiring.tasks)
}

/// What the tasks are made of.
struct Wiring<'a> {
    context: &'a Context,
    prepared: &'a mut Prepared,
    channels: &'a Channels,
    tokens: &'a Tokens,
    stats: Arc<StreamStats>,
    tasks: Tasks,
}

impl Wiring<'_> {
    fn spawn_recorder(
        &mut self,
        storage: record::Recorder,
        changes: mpsc::Receiver<CapturedChunk>,
        requests: mpsc::Receiver<LiveRequest>,
    ) {
        let channels = RecorderChannels {
            changes,
            requests,
            recorded_end: self.channels.recorded_end.clone(),
            control: self.channels.control.subscribe(),
            indexing: self.channels.indexing.subscribe(),
            progress: self.channels.progress.subscribe(),
        };
        let limits = &self.context.config.limits;
        let metrics = RecorderMetrics::new(&self.context.metrics, &self.context.tables);
        let in_flight = self.channels.in_flight.clone();
        let recorder = Recorder::new(storage, limits, channels, in_flight, metrics);
        let stop = self.tokens.stop.clone();
        self.tasks
            .flow
            .spawn(async move { recorder::run(recorder, stop).await.map_err(Fault::from) });
    }

    fn spawn_checkpoint(&mut self, settler: Settler, settled: mpsc::Receiver<Arc<PendingBatch>>) {
        let channels = CheckpointChannels {
            settled,
            recorded_end: self.channels.recorded_end.subscribe(),
            control: self.channels.control.subscribe(),
            progress: self.channels.progress.clone(),
            fanouts: self.channels.fanouts.clone(),
            durable: self.channels.durable.clone(),
        };
        let received =
            ReceivedPosition { start: self.prepared.start, stats: Arc::clone(&self.stats) };
        let metrics = SettlementMetrics::new(&self.context.metrics, &self.context.tables);
        let checkpoint = Checkpoint::new(settler, channels, received, metrics);
        self.tasks
            .flow
            .spawn(async move { checkpoint::run(checkpoint).await.map_err(Fault::from) });
    }

    fn spawn_stream(
        &mut self,
        catalog: Arc<tokio_postgres::Client>,
        watch: Arc<tokio_postgres::Client>,
        output: mpsc::Sender<CapturedChunk>,
    ) -> Result<(), Fault> {
        let tables = self.prepared.shapes.iter().map(|shape| StreamTable {
            schema: shape.schema.clone(),
            name: shape.name.clone(),
            oid: Some(shape.oid),
            named: shape.named.clone(),
        });
        let tables = Tables::new(tables.collect());
        let row_bytes_max = self.context.config.limits.row_bytes_max;
        let mut settings = StreamSettings { row_bytes_max, ..StreamSettings::default() };
        if self.context.options.once {
            settings.idle_step = 0;
        }
        let ports = wal::stream::Ports {
            catalog,
            watch,
            durable: self.channels.durable.subscribe(),
            control: self.channels.control.subscribe(),
            output,
            shutdown: self.tokens.close.clone(),
            stats: Arc::clone(&self.stats),
            metrics: self.context.metrics.source.clone(),
            waits: self.context.metrics.waits.clone(),
            memory: self.context.metrics.memory.clone(),
        };
        let stream = self.prepared.stream.take();
        let stream = stream.ok_or_else(|| Fault::Passing("no stream".to_owned()))?;
        self.tasks.stream.spawn(async move {
            wal::run(stream, tables, settings, ports).await.map_err(Fault::from)
        });
        Ok(())
    }

    async fn spawn_supervisor(
        &mut self,
        session: Arc<tokio_postgres::Client>,
    ) -> Result<(), Fault> {
        let retained_max = retained_max(self.context, &session).await?;
        let lease = &self.prepared.lease;
        let metrics = self.context.metrics.clone();
        let status = self.context.status.clone();
        let changed = Arc::clone(&self.context.operator_requests.control);
        let halted = self.channels.control.borrow().halted;
        let supervisor = Supervisor::new(
            SlotWatch::new(Arc::clone(&session), lease.clone(), self.prepared.source.clone()),
            RetentionGuard::new(retained_max),
            SinkWatch::new(&self.channels.sink),
            OperatorHalt::new(session, lease.slot.clone(), changed, halted),
            Reporter::new(
                metrics,
                status,
                Arc::clone(&self.stats),
                Arc::clone(&self.channels.sink),
            ),
        );
        let channels = SupervisorChannels {
            progress: self.channels.progress.subscribe(),
            indexing: self.channels.indexing.subscribe(),
            control: self.channels.control.clone(),
        };
        let close = self.tokens.close.clone();
        self.tasks.beside.spawn(async move {
            supervisor::run(supervisor, channels, close).await.map_err(Fault::from)
        });
        Ok(())
    }

    /// Spawns the duties that wait for nothing in the flow.
    fn spawn_duties(&mut self, rescuer: Rescuer) {
        let in_flight = self.channels.in_flight.clone();
        let requests = self.context.operator_requests.clone();
        let metrics = self.context.metrics.queue.clone();
        self.tasks.beside.spawn(async move {
            rescue::run(rescuer, in_flight, requests, metrics).await.map_err(Fault::from)
        });
        let queue = self.context.config.queue.clone();
        let database = self.context.config.database.clone();
        let waits = self.context.metrics.waits.clone();
        let status = self.context.status.clone();
        self.tasks.beside.spawn(async move {
            wait_watch::run(waits, status).await;
            Ok(())
        });
        let maintain = upkeep::maintain(database, queue, self.prepared.lease.clone());
        self.tasks.beside.spawn(async move {
            maintain.await;
            Ok(())
        });
    }

    /// Spawns the duty that does what operators ask for beside the stream.
    fn spawn_operations(
        &mut self,
        session: tokio_postgres::Client,
        chunks: mpsc::Sender<OperationChunk>,
    ) -> Result<(), Fault> {
        let config = &self.context.config;
        let operations = Operations::new(OperationParts {
            session,
            database: config.database.clone(),
            lease: self.prepared.lease.clone(),
            shapes: self.prepared.shapes.clone(),
            definition: Arc::clone(&self.context.definition),
            indices: indices_of_tables(self.context),
            index_names: Arc::clone(&self.context.indices),
            elasticsearch: Arc::new(client::Client::new(&config.elasticsearch)?),
            seen: StagesSeen {
                progress: self.channels.progress.subscribe(),
                stream: Arc::clone(&self.stats),
                report: self.channels.indexing.subscribe(),
            },
            row_bytes_max: config.limits.row_bytes_max,
            closed: self.channels.sink.closed(),
            chunks,
            chunk_rows: config.limits.fanout_rows_max,
        });
        let is_single = self.context.options.once;
        self.tasks.beside.spawn(async move {
            if is_single {
                // The end of a session would end the run.
                let _open = operations;
                std::future::pending::<()>().await;
                return Ok(());
            }
            operation::run(operations).await.map_err(Fault::from)
        });
        Ok(())
    }
}

/// The names of the indices that show a table's rows, by table.
fn indices_of_tables(context: &Context) -> Vec<Vec<String>> {
    let tables = (0_u16..).zip(&context.definition.tables);
    let of_table = |(number, _)| {
        let sources = context.definition.sources_of(TableId(number));
        let index = |source: SourceId| context.indices[usize::from(source.index.0)].clone();
        sources.into_iter().map(index).collect()
    };
    tables.map(of_table).collect()
}

async fn retained_max(context: &Context, control: &tokio_postgres::Client) -> Result<u64, Fault> {
    if let Some(bytes) = context.config.limits.retained_wal_bytes_max {
        return Ok(bytes);
    }
    let sql = "select s.setting::bigint as mib from pg_catalog.pg_settings s
        where s.name = 'max_slot_wal_keep_size'";
    let row = control.query_one(sql, &[]).await?;
    Ok(default_limit(row.get("mib")))
}
