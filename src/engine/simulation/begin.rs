//! What a run of the simulation begins with: its limits, its channels' ends, its first orders.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::index::INDICES;
use super::outside::Outside;
use crate::ack::batch::PendingBatch;
use crate::ack::in_flight::InFlight;
use crate::change::Lsn;
use crate::config::Limits;
use crate::engine::control::{Control, RunConditions, SettlementProgress, decide};
use crate::engine::feed::action::SinkCommand;
use crate::engine::feed::emit::Emitter;
use crate::engine::recorder::{BatchAssembler, Recorder, RecorderChannels, RecorderMetrics};
use crate::engine::sink::state::SinkState;
use crate::telemetry::metrics::Metrics;

thread_local! {
    /// Made once: its registry is large.
    static METRICS: RefCell<Option<Metrics>> = const { RefCell::new(None) };
}

pub(super) fn metrics() -> Metrics {
    METRICS.with_borrow_mut(|known| known.get_or_insert_with(Metrics::new).clone())
}

pub(super) fn limits(rng: &mut fastrand::Rng) -> Limits {
    Limits {
        batch_changes_max: rng.usize(1..=4),
        batch_bytes_max: 1 << 20,
        row_bytes_max: usize::MAX,
        bulk_actions_max: rng.usize(1..=4),
        bulk_bytes_max: 1 << 20,
        bulks_in_flight_max: rng.usize(1..=3),
        actions_bytes_max: 1 << 20,
        memory_max: usize::MAX,
        fanout_rows_max: [1, 2, 500][rng.usize(0..3)],
        retained_wal_bytes_max: None,
        shutdown_grace: Duration::from_secs(1),
    }
}

pub(super) fn begun_control(operator_halt: bool) -> Control {
    decide(RunConditions { operator_halt, ..RunConditions::default() })
}

pub(super) fn begun_progress(settled: Lsn) -> SettlementProgress {
    SettlementProgress { settled, ..SettlementProgress::default() }
}

pub(super) fn recorder(
    outside: &Outside,
    limits: &Limits,
    channels: RecorderChannels,
    in_flight: InFlight,
    metrics: &Metrics,
) -> Recorder<()> {
    let assembler = BatchAssembler::new(outside.queue.recorded, limits);
    let counts = RecorderMetrics::new(metrics, &["p".to_owned(), "d".to_owned()]);
    Recorder::begun((), assembler, channels, in_flight, counts, outside.instant())
}

pub(super) fn emitter(
    commands: mpsc::Sender<SinkCommand>,
    settled: mpsc::Sender<Arc<PendingBatch>>,
    metrics: &Metrics,
) -> Emitter {
    Emitter::new(commands, settled, 1 << 30, metrics.waits.clone(), metrics.memory.clone())
}

pub(super) fn sink_state(metrics: &Metrics) -> Arc<SinkState> {
    let names = INDICES.map(str::to_owned).to_vec();
    Arc::new(SinkState::with_metrics(names, metrics.sink.clone()))
}
