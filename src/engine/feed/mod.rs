//! Decides which jobs the run works on, and renders them: the one task that sends actions.
//!
//! Jobs come from one source at a time: the first load, the queue table (unfinished jobs in the
//! order of commit, rendered by reads), or the stream (what the recorder has just written).
//! Because one task renders everything in one order, an action is never older than an action sent
//! before it for the same document.
//!
//! Not here: writing jobs (`recorder`), sending documents (`sink`), their fate (`checkpoint`).

pub mod action;
pub mod control;
pub mod emit;
pub mod inspect;
pub mod render;
pub mod source;

use std::sync::Arc;

use tokio::time::Instant;

use crate::ack::batch::{JobKey, PendingBatch};
use crate::change::Change;
use crate::postgres::{Disposition, Recovery};
use crate::storage::QueueError;
use crate::telemetry::metrics::{self, Stage};
use crate::telemetry::mode::FeedMode;
use crate::telemetry::trace;
use control::FeedControl;
use emit::{Emitter, StageGone};
use render::read::ReadError;
use render::{BatchOutput, Escaping, Renderer, RowsFrom};
use source::live;
use source::load::FirstLoad;
use source::table::JobSource;

/// The feed cannot continue; the run ends.
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

/// One change, and the job that records it.
#[derive(Debug)]
pub struct JobChange {
    pub change: Change,
    pub job: JobKey,
}

/// What every source works with: rendering, sending, and the control plane.
pub struct FeedCore {
    renderer: Renderer,
    emitter: Emitter,
    control: FeedControl,
    metrics: metrics::PipelineMetrics,
}

impl FeedCore {
    /// Everything but the sources.
    #[must_use]
    pub fn new(
        renderer: Renderer,
        emitter: Emitter,
        control: FeedControl,
        metrics: metrics::PipelineMetrics,
    ) -> Self {
        Self { renderer, emitter, control, metrics }
    }

    /// Renders the changes of a batch in order and sends their actions.
    async fn render(
        &mut self,
        pending: &Arc<PendingBatch>,
        changes: &[JobChange],
        rows: RowsFrom,
        escaping: Escaping,
    ) -> Result<(), FeedError> {
        let began = Instant::now();
        let span = trace::stage(Stage::Render, pending.batch());
        let output = BatchOutput { emitter: &self.emitter, pending, escaping };
        self.renderer.render(output, changes, rows).await?;
        drop(span);
        self.metrics.stage(Stage::Render, began.elapsed());
        Ok(())
    }
}

/// The sources of the run, in the order in which they are worked through.
pub struct Feed {
    core: FeedCore,
    load: FirstLoad,
    jobs: JobSource,
}

impl Feed {
    /// The feed of one run.
    #[must_use]
    pub fn new(core: FeedCore, load: FirstLoad, jobs: JobSource) -> Self {
        Self { core, load, jobs }
    }
}

/// Runs until the run stops, or until the recorder ends.
///
/// # Errors
/// [`FeedError`], which ends the run.
pub async fn run(feed: Feed) -> Result<(), FeedError> {
    let Feed { mut core, load, mut jobs } = feed;
    if !load.is_done() {
        core.control.set_mode(FeedMode::Load);
        load.run(&mut core).await?;
    }
    jobs.fanouts.resume(&core).await?;
    while !core.control.is_stopped() {
        core.control.set_mode(FeedMode::Table);
        core.renderer.forget_rows();
        let Some(live) = jobs.finish(&mut core).await? else { return Ok(()) };
        core.control.set_mode(FeedMode::Live);
        core.renderer.forget_rows();
        live::follow(live, &mut core, &mut jobs).await?;
        core.control.set_caught_up(false);
    }
    Ok(())
}
