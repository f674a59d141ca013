//! The channels of one run, and the tokens that end its stages.
//!
//! Not here: who reads them (`spawn`), and what they mean (each stage).

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::prepare::Prepared;
use crate::ack::in_flight::InFlight;
use crate::change::Lsn;
use crate::engine::checkpoint::Progress;
use crate::engine::checkpoint::acknowledge::AcknowledgeAt;
use crate::engine::feed::Mode;

/// What the stages of one run share.
pub(super) struct Channels {
    pub durable: watch::Sender<Lsn>,
    pub acknowledge_at: watch::Sender<AcknowledgeAt>,
    pub recorded_end: watch::Sender<Lsn>,
    pub progress: watch::Sender<Progress>,
    pub capture_only: watch::Sender<bool>,
    pub halted: watch::Sender<bool>,
    pub mode: watch::Sender<Mode>,
    /// True once searches see what was loaded.
    pub loaded: watch::Sender<bool>,
    pub alive: InFlight,
    pub caught_up: watch::Sender<bool>,
}

impl Channels {
    pub(super) fn new(prepared: &Prepared, halted: bool) -> Self {
        let settled = prepared.settlement.settled_lsn;
        Self {
            durable: watch::Sender::new(settled),
            acknowledge_at: watch::Sender::default(),
            recorded_end: watch::Sender::new(prepared.start),
            progress: watch::Sender::new(Progress { settled, ..Progress::default() }),
            capture_only: watch::Sender::new(halted),
            halted: watch::Sender::new(halted),
            alive: InFlight::default(),
            loaded: watch::Sender::new(false),
            mode: watch::Sender::new(Mode::Starting),
            caught_up: watch::Sender::new(false),
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
