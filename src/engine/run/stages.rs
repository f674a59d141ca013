//! One run: the stages spawned, watched, and drained in the order of the flow.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::indexing::{self, Indexing};
use super::prepare::Prepared;
use super::stores::Stores;
use super::{Context, Fault};
use crate::ack::in_flight::InFlight;
use crate::change::Lsn;
use crate::engine::checkpoint;
use crate::engine::checkpoint::Progress;
use crate::engine::feed::Mode;
use crate::engine::recorder;
use crate::engine::recorder::{Counters, LiveRequest, Recorder};
use crate::engine::sink::state::State;
use crate::engine::supervisor;
use crate::engine::supervisor::retention_guard::{RetentionGuard, default_limit};
use crate::engine::supervisor::{Supervisor, rescue, upkeep};
use crate::engine::wal;
use crate::engine::wal::{Captured, StreamSettings, StreamStats, Tables};
use crate::storage::control;
use crate::storage::lease;
use crate::storage::queue::record;
use crate::storage::queue::rescue::Rescuer;
use crate::telemetry::metrics;
use crate::telemetry::readiness::Component;

/// Chunks of captured changes between the stream and the recorder. One: the next one grows while
/// the recorder is busy, so that it is woken once for many changes.
const CHUNKS_MAX: usize = 1;
/// For the last acknowledgement, and for giving the lease back.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Batches between the sink and the checkpoint.
const BATCHES_MAX: usize = 256;

/// What the stages of one run share.
struct Channels {
    durable: watch::Sender<Lsn>,
    recorded_end: watch::Sender<Lsn>,
    progress: watch::Sender<Progress>,
    capture_only: watch::Sender<bool>,
    halted: watch::Sender<bool>,
    mode: watch::Sender<Mode>,
    loaded: watch::Sender<bool>,
    alive: InFlight,
    caught_up: watch::Sender<bool>,
}

impl Channels {
    fn new(prepared: &Prepared, halted: bool) -> Self {
        Self {
            durable: watch::Sender::new(prepared.settlement.settled_lsn),
            recorded_end: watch::Sender::new(prepared.start),
            progress: watch::Sender::new(Progress {
                settled: prepared.settlement.settled_lsn,
                ..Progress::default()
            }),
            capture_only: watch::Sender::new(halted),
            halted: watch::Sender::new(halted),
            alive: InFlight::default(),
            loaded: watch::Sender::new(false),
            mode: watch::Sender::new(Mode::Starting),
            caught_up: watch::Sender::new(false),
        }
    }
}

/// Tells the stages of one run when to end.
#[derive(Clone, Default)]
struct Tokens {
    /// Read and claim nothing more.
    stop: CancellationToken,
    /// Everything has settled: acknowledge and close.
    close: CancellationToken,
}

pub(super) async fn run(
    context: &Context,
    mut prepared: Prepared,
    shutdown: &CancellationToken,
) -> Result<(), Fault> {
    let indexing = control::indexing(&prepared.control, &prepared.lease.slot).await;
    let channels = Channels::new(&prepared, !indexing?);
    let (tokens, wal_end) = (Tokens::default(), prepared.wal_end);
    let (control, lease) = (Arc::clone(&prepared.control), prepared.lease.clone());
    let mut tasks = spawn(context, &mut prepared, &channels, &tokens).await?;
    note_streaming(context, prepared.start);
    let once = context.options.once;
    let (progress, loaded) = (channels.progress.subscribe(), channels.loaded.subscribe());
    let caught_up = caught_up(progress, wal_end, loaded);
    let mut caught_up = pin!(caught_up);
    let mut closed = pin!(any_closed(prepared.closed.clone()));
    tokio::select! {
        biased; // the stream's own reason before those that follow from it
        ended = tasks.stream.join_next() => return Err(outcome(ended)),
        ended = tasks.beside.join_next() => return Err(outcome(ended)),
        ended = tasks.flow.join_next() => return Err(outcome(ended)),
        reason = &mut closed => return Err(Fault::Passing(reason)),
        () = shutdown.cancelled() => {}
        () = &mut caught_up, if once => {}
    }
    tokens.stop.cancel();
    let drained = timeout(context.config.limits.shutdown_grace, async {
        while let Some(ended) = tasks.flow.join_next().await {
            flatten(ended)?;
        }
        Ok::<(), Fault>(())
    })
    .await;
    match drained {
        Ok(Ok(())) => {}
        Ok(Err(Fault::Passing(sentence))) => {
            tracing::warn!(event = "drain_fault", error = sentence, "while draining");
        }
        Ok(Err(fault)) => return Err(fault),
        Err(_) => {
            tracing::warn!(
                event = "drain_incomplete",
                "not everything in flight settled in time; the next start resumes it"
            );
            tasks.flow.shutdown().await;
        }
    }
    channels.durable.send_if_modified(|known| {
        let settled = channels.progress.borrow().settled;
        let ahead = settled > *known;
        *known = settled.max(*known);
        ahead
    });
    tokens.close.cancel();
    if timeout(CLOSE_MAX, tasks.stream.join_next()).await.is_err() {
        tracing::debug!("the stream did not close in time");
    }
    tasks.beside.shutdown().await;
    match timeout(CLOSE_MAX, lease::release(&control, &lease)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the lease was not released; it expires"),
        Err(_) => tracing::debug!("the lease was not released in time; it expires"),
    }
    Ok(())
}

fn note_streaming(context: &Context, start: Lsn) {
    context.metrics.source.set_up(true);
    context.status.ok(Component::Slot, format!("streaming from {start}"));
}

type Ended = Option<Result<Result<(), Fault>, tokio::task::JoinError>>;

/// Why a task ended that should not have.
fn outcome(ended: Ended) -> Fault {
    match ended.map(flatten) {
        Some(Err(fault)) => fault,
        Some(Ok(())) | None => Fault::Passing("a stage ended by itself".to_owned()),
    }
}

fn flatten(ended: Result<Result<(), Fault>, tokio::task::JoinError>) -> Result<(), Fault> {
    match ended {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Fault::Passing("a stage panicked".to_owned())),
        Err(_) => Ok(()),
    }
}

async fn any_closed(sessions: Vec<crate::postgres::Closed>) -> String {
    let mut waits = JoinSet::new();
    for session in sessions {
        waits.spawn(async move { session.wait().await });
    }
    match waits.join_next().await {
        Some(Ok(reason)) => reason,
        _ => "a session was closed".to_owned(),
    }
}

/// All below `target` is settled, and searches see what was loaded.
async fn caught_up(
    mut progress: watch::Receiver<Progress>,
    target: Lsn,
    mut loaded: watch::Receiver<bool>,
) {
    let settled = progress.wait_for(|known| known.settled >= target).await.is_ok();
    if !settled || loaded.wait_for(|loaded| *loaded).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The tasks of a run. Dropping them ends them where they are.
struct Tasks {
    /// Those that end one after the other once nothing more is read.
    flow: JoinSet<Result<(), Fault>>,
    /// The duties, which end last.
    beside: JoinSet<Result<(), Fault>>,
    /// The stream, which closes once everything has settled.
    stream: JoinSet<Result<(), Fault>>,
}

async fn spawn(
    context: &Context,
    prepared: &mut Prepared,
    channels: &Channels,
    tokens: &Tokens,
) -> Result<Tasks, Fault> {
    let (chunks, changes) = mpsc::channel(CHUNKS_MAX);
    let (requests, live_requests) = mpsc::channel(1);
    let (settled, pending_batches) = mpsc::channel(BATCHES_MAX);
    let mut tasks = Tasks {
        flow: JoinSet::new(),
        beside: std::mem::take(&mut prepared.beside),
        stream: JoinSet::new(),
    };
    let stores = Stores::open(context, prepared).await?;

    let recorder = recorder(context, channels, stores.storage, (changes, live_requests));
    let stop = tokens.stop.clone();
    tasks.flow.spawn(async move { recorder::run(recorder, stop).await.map_err(Fault::from) });
    let (settler, progress) = (stores.settler, channels.progress.clone());
    let telling = checkpoint::SettlementMetrics::new(&context.metrics, &context.tables);
    tasks.flow.spawn(async move {
        checkpoint::run(settler, pending_batches, progress, telling).await.map_err(Fault::from)
    });
    let state = State::telling(context.indices.to_vec(), context.metrics.sink.clone());
    let state = Arc::new(state);
    let indexing = Indexing {
        context: context.clone(),
        state: Arc::clone(&state),
        lease: prepared.lease.clone(),
        stored: prepared.stored.clone(),
        settlement: prepared.settlement,
        confirmed: prepared.confirmed,
        shapes: prepared.shapes.clone(),
        control: Arc::clone(&stores.feed),
        reader: stores.reader,
        claims: stores.claims,
        settled,
        requests,
        mode: channels.mode.clone(),
        caught_up: channels.caught_up.clone(),
        halted: channels.halted.subscribe(),
        loaded: channels.loaded.clone(),
        alive: channels.alive.clone(),
        stop: tokens.stop.clone(),
    };
    tasks.flow.spawn(indexing::run(indexing));

    let stats = Arc::new(StreamStats::starting_at(prepared.start));
    let ports = wal::stream::Ports {
        catalog: stores.feed,
        durable: channels.durable.subscribe(),
        output: chunks,
        shutdown: tokens.close.clone(),
        stats: Arc::clone(&stats),
        metrics: context.metrics.source.clone(),
    };
    spawn_stream(context, prepared, ports, &mut tasks.stream)?;
    let supervisor = supervisor(context, prepared, channels, (state, stats)).await?;
    let close = tokens.close.clone();
    tasks
        .beside
        .spawn(async move { supervisor::run(supervisor, close).await.map_err(Fault::from) });
    spawn_duties(context, prepared, channels, stores.rescuer, &mut tasks.beside);
    Ok(tasks)
}

/// What writes the jobs.
fn recorder(
    context: &Context,
    channels: &Channels,
    storage: record::Recorder,
    (changes, requests): (mpsc::Receiver<Vec<Captured>>, mpsc::Receiver<LiveRequest>),
) -> Recorder {
    Recorder {
        recorded: storage.recorded(),
        storage,
        limits: context.config.limits.clone(),
        recorded_end: channels.recorded_end.clone(),
        changes,
        requests,
        capture_only: channels.capture_only.subscribe(),
        mode: channels.mode.subscribe(),
        alive: channels.alive.clone(),
        progress: channels.progress.subscribe(),
        stalled: false,
        metrics: context.metrics.pipeline.clone(),
        counters: Counters::new(&context.metrics.source, &context.tables),
    }
}

/// Duties that wait for nothing in the flow.
fn spawn_duties(
    context: &Context,
    prepared: &Prepared,
    channels: &Channels,
    rescuer: Rescuer,
    tasks: &mut JoinSet<Result<(), Fault>>,
) {
    let (alive, operator_requests) = (channels.alive.clone(), context.operator_requests.clone());
    let told = context.metrics.queue.clone();
    tasks.spawn(async move {
        rescue::run(rescuer, alive, operator_requests, told).await.map_err(Fault::from)
    });
    let retention = context.config.queue.completed_retention;
    let maintain =
        upkeep::maintain(context.config.database.clone(), retention, prepared.lease.clone());
    tasks.spawn(async move {
        maintain.await;
        Ok(())
    });
}

async fn supervisor(
    context: &Context,
    prepared: &Prepared,
    channels: &Channels,
    (state, stream): (Arc<State>, Arc<StreamStats>),
) -> Result<Supervisor, Fault> {
    Ok(Supervisor {
        client: Arc::clone(&prepared.control),
        lease: prepared.lease.clone(),
        guard: RetentionGuard::new(retained_max(context, &prepared.control).await?),
        metrics: context.metrics.clone(),
        status: context.status.clone(),
        recorded_end: channels.recorded_end.subscribe(),
        progress: channels.progress.subscribe(),
        service: state.service(),
        indices: state.indices(),
        mode: channels.mode.subscribe(),
        durable: channels.durable.clone(),
        capture_only: channels.capture_only.clone(),
        halted: channels.halted.clone(),
        source: prepared.source.clone(),
        operator_requests: context.operator_requests.clone(),
        sink: state,
        stream,
        refused: false,
    })
}

fn spawn_stream(
    context: &Context,
    prepared: &mut Prepared,
    ports: wal::stream::Ports,
    tasks: &mut JoinSet<Result<(), Fault>>,
) -> Result<(), Fault> {
    let tables = context.definition.tables.iter();
    let tables = Tables::new(tables.map(|t| (t.schema.clone(), t.name.clone())).collect());
    let mut settings = StreamSettings::default();
    if context.options.once {
        settings.idle_step = 0;
    }
    let stream = prepared.stream.take().ok_or_else(|| Fault::Passing("no stream".to_owned()))?;
    tasks
        .spawn(async move { wal::run(stream, tables, settings, ports).await.map_err(Fault::from) });
    Ok(())
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

impl From<Mode> for metrics::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Starting | Mode::Preparing => Self::Starting,
            Mode::Load => Self::Load,
            Mode::Table => Self::Table,
            Mode::Live => Self::Live,
        }
    }
}
