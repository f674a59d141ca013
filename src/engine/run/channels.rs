//! The channels of one run, and the tokens that end its stages.
//!
//! Not here: who reads them (`spawn`), and what they mean (each stage).

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::prepare::Prepared;
use crate::ack::in_flight::InFlight;
use crate::change::Lsn;
use crate::engine::control::{Control, IndexingReport, RunConditions, decide};
use crate::engine::control::{FanoutSettlements, SettlementProgress};
use crate::engine::sink::state::SinkState;

/// What the stages of one run share.
pub(super) struct Channels {
    /// From the supervisor: what the stages must do.
    pub control: watch::Sender<Control>,
    /// From the indexing half: what it does.
    pub indexing: watch::Sender<IndexingReport>,
    /// From the recorder: up to here the table holds every change.
    pub recorded_end: watch::Sender<Lsn>,
    /// From the checkpoint: what has settled.
    pub progress: watch::Sender<SettlementProgress>,
    /// From the checkpoint to the feed: the fan-outs that began, and their chunks that settled.
    pub fanouts: watch::Sender<FanoutSettlements>,
    /// From the checkpoint to the stream: what may be acknowledged.
    pub durable: watch::Sender<Lsn>,
    pub in_flight: InFlight,
    /// From the sink: whether Elasticsearch and its indices take documents.
    pub sink: Arc<SinkState>,
}

impl Channels {
    /// Whether an operator has stopped indexing is known before the run begins.
    pub(super) fn new(context: &Context, prepared: &Prepared, operator_halt: bool) -> Self {
        let conditions = RunConditions { operator_halt, ..RunConditions::default() };
        let settled = prepared.settlement.settled_lsn;
        Self {
            control: watch::Sender::new(decide(conditions)),
            indexing: watch::Sender::default(),
            recorded_end: watch::Sender::new(prepared.start),
            progress: watch::Sender::new(SettlementProgress {
                settled,
                ..SettlementProgress::default()
            }),
            fanouts: watch::Sender::default(),
            durable: watch::Sender::new(settled),
            in_flight: InFlight::default(),
            sink: Arc::new(SinkState::with_metrics(
                context.indices.to_vec(),
                context.metrics.sink.clone(),
            )),
        }
    }
}

/// End the stages of one run.
#[derive(Clone, Default)]
pub(super) struct Tokens {
    /// Read and claim nothing more.
    pub stop: CancellationToken,
    /// Everything has settled: acknowledge and close.
    pub close: CancellationToken,
}
