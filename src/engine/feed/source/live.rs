//! The stream as source: batches that the recorder has just written, rendered from their own
//! images.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::operation;
use super::table::{JobSource, NO_KEY, names_a_row};
use crate::ack::batch::JobKey;
use crate::ack::job_set::JobSet;
use crate::engine::feed::emit::NewBatch;
use crate::engine::feed::render::visible::DeliveredXid;
use crate::engine::feed::render::{Escaping, RowsFrom};
use crate::engine::feed::{FeedCore, FeedError, JobChange};
use crate::engine::recorder::{GoneLive, Recorded};

/// Between two queries for jobs that are due, or that another program inserted.
const QUERY_DUE_EVERY: Duration = Duration::from_secs(1);

/// Follows the recorder until it captures again.
pub(in crate::engine::feed) async fn follow(
    mut live: GoneLive,
    core: &mut FeedCore,
    jobs: &mut JobSource,
) -> Result<(), FeedError> {
    let mut tick = interval(QUERY_DUE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let wake = core.control.wake();
    let mut closed = core.control.closed();
    loop {
        tokio::select! {
            batch = live.batches.recv() => {
                let Some(batch) = batch else { return Ok(()) };
                core.control.set_caught_up(live.batches.is_empty());
                if let Some(last) = batch.changes.last() {
                    jobs.fed.note(last.position);
                }
                render_recorded(core, jobs, batch).await?;
                core.renderer.trim().await?;
                jobs.fanouts.make_room(core, RowsFrom::Stream).await?;
            }
            () = jobs.fanouts.ready(), if core.control.may_begin() => {
                jobs.fanouts.step(core, RowsFrom::Stream).await?;
            }
            chunk = jobs.operations.next(), if core.control.may_begin() => {
                operation::send_chunk(core, chunk, RowsFrom::Stream).await?;
            }
            _ = tick.tick() => jobs.take_due_while_live(core).await?,
            () = wake.notified() => jobs.take_due_at_once(core).await?,
            Ok(()) = closed.changed() => jobs.take_due_at_once(core).await?,
        }
    }
}

async fn render_recorded(
    core: &mut FeedCore,
    jobs: &mut JobSource,
    batch: Recorded,
) -> Result<(), FeedError> {
    let positions = batch.changes.first().zip(batch.changes.last());
    let job_set = positions.map_or(JobSet::None, |(first, last)| JobSet::Range {
        first: first.position,
        last: last.position,
    });
    let _memory = batch.memory;
    let pending = core.emitter.open(NewBatch {
        end_lsn: batch.end_lsn,
        hold: batch.hold,
        ..NewBatch::of_jobs(job_set, batch.changes.iter(), batch.span)
    });
    for change in &batch.changes {
        core.renderer.note_delivered(DeliveredXid::Stream(change.xid));
    }
    let mut changes = Vec::with_capacity(batch.changes.len());
    for change in batch.changes {
        let job = JobKey::At(change.position);
        if names_a_row(&change, core.renderer.shapes()) {
            changes.push(JobChange { change, job });
        } else if let Some(pending) = pending.reference(job).failed(NO_KEY.to_owned()) {
            core.emitter.close_settled(pending).await?;
        }
    }
    core.render(&pending, &changes, RowsFrom::Stream, Escaping::Plain).await?;
    jobs.fanouts.note_begun(core, &pending);
    Ok(core.emitter.close(pending).await?)
}
