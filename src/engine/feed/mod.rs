//! Decides what the documents stage works on, and renders it: the one task that sends actions.
//!
//! Work comes from one feed at a time: the first load, the table (unfinished jobs in the order of
//! commit, rendered by reads), or live (what the recorder has just written). Because one task
//! renders everything in one order, an action is never older than one sent before it for the same
//! document.
//!
//! Not here: writing jobs (`recorder`), sending documents (`sink`), their fate (`checkpoint`).

pub mod action;
pub mod emit;
pub mod inspect;
pub mod render;
pub mod source;

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::ack::batch::JobKey;
use crate::ack::in_flight::InFlight;
use crate::change::{Change, Lsn, Position, TableId};
use crate::engine::document::build::Builder;
use crate::engine::document::definition::{Definition, SourceId};
use crate::engine::document::id::version;
use crate::engine::document::shape::Shapes;
use crate::engine::feed::render::ahead::ReadAhead;
use crate::engine::feed::render::cache::Cache;
use crate::engine::feed::render::read::{ReadError, Reader};
pub use crate::engine::recorder::FeedMode as Mode;
use crate::engine::recorder::LiveRequest;
use crate::postgres::{Disposition, Recovery};
use crate::storage::QueueError;
use crate::storage::lease::Lease;
use crate::storage::load_progress::LoadProgress;
use crate::storage::position;
use crate::storage::queue::claim::Claimer;
use crate::telemetry::metrics;
use emit::{Emitter, StageGone};

/// The read-ahead LSN is stored this far ahead, so that the store is rare.
const HORIZON_STEP: u64 = 4 << 20;

/// The feed cannot go on; the run ends.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error(transparent)]
    Stage(#[from] StageGone),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Recovery for FeedError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Stage(error) => error.disposition(),
            Self::Read(error) => error.disposition(),
            Self::Queue(error) => error.disposition(),
        }
    }
}

/// One change with the job that stands for it.
#[derive(Debug)]
pub struct Work {
    pub change: Change,
    pub job: JobKey,
}

/// See the module's documentation.
pub struct Feed {
    pub definition: Arc<Definition>,
    pub shapes: Shapes,
    /// The base LSN of versions, by index.
    pub bases: Vec<Lsn>,
    pub builder: Builder,
    pub reader: Reader,
    pub cache: Cache,
    pub ahead: ReadAhead,
    pub emitter: Emitter,
    pub claims: Claimer,
    pub loads: Vec<(TableId, LoadProgress)>,
    /// For single statements under the lease.
    pub control: Arc<Client>,
    pub lease: Lease,
    /// The read-ahead LSN as stored.
    pub stored_horizon: Lsn,
    /// Jobs claimed from the table at once.
    pub claim_max: u32,
    pub requests: mpsc::Sender<LiveRequest>,
    pub mode: watch::Sender<Mode>,
    pub caught_up: watch::Sender<bool>,
    /// An operator has halted indexing: begin nothing.
    pub halted: watch::Receiver<bool>,
    /// Somebody has left work in the table.
    pub poke: Arc<Notify>,
    pub alive: InFlight,
    /// The last change that any feed of this run has worked on, or that was recorded before it.
    pub fed: Position,
    /// Where jobs without a place go.
    pub place: Position,
    /// Since when no place could be had for them.
    pub unplaced_since: Option<Instant>,
    /// Documents are looked through for what Elasticsearch's parser refuses.
    pub careful: bool,
    /// Take up no more work; what has been begun is finished.
    pub stop: CancellationToken,
    pub metrics: metrics::Pipeline,
}

/// Runs until told to stop, or until the recorder ends.
///
/// # Errors
/// [`FeedError`], which ends the run.
pub async fn run(mut feed: Feed) -> Result<(), FeedError> {
    if !feed.loads.is_empty() {
        feed.mode.send_replace(Mode::Load);
        feed.load_all().await?;
    }
    while !feed.stop.is_cancelled() {
        feed.mode.send_replace(Mode::Table);
        feed.cache.clear();
        let Some(live) = feed.finish_table().await? else { return Ok(()) };
        feed.mode.send_replace(Mode::Live);
        feed.cache.clear();
        feed.follow(live).await?;
        feed.caught_up.send_replace(false);
    }
    Ok(())
}

impl Feed {
    fn base(&self, source: SourceId) -> Lsn {
        self.bases[usize::from(source.index.0)]
    }

    /// `None`: below the index's base, something newer is there.
    fn version(&self, source: SourceId, position: Position) -> Option<u64> {
        version(position, self.base(source))
    }

    /// Waits while indexing is halted; false when told to stop.
    async fn may_go_on(&mut self) -> bool {
        let halted = self.halted.wait_for(|halted| !*halted);
        tokio::select! {
            () = self.stop.cancelled() => false,
            going = halted => going.is_ok(),
        }
    }

    /// Stores that reads have seen up to here, before anything rendered by them is sent.
    async fn store_horizon(&mut self, horizon: Lsn) -> Result<(), FeedError> {
        if horizon > self.stored_horizon {
            let ahead = Lsn(horizon.0 + HORIZON_STEP);
            position::raise_read_ahead(&self.control, &self.lease, ahead).await?;
            self.stored_horizon = ahead;
        }
        Ok(())
    }
}
