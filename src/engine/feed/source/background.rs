//! Fan-outs in the background, chunk by chunk between the batches of the other sources.
//!
//! A fan-out is read from the database once the batch of its changes has settled, so it goes on in
//! the same way in this run and in a later one. One chunk is on its way at a time, and the next
//! follows once its progress is stored; so a change waits for one chunk at most. Fan-outs take
//! turns. Those that rewrite the same rows go on together, unless one of them has begun: then the
//! others wait for its end, so that many changes of one row cost two passes.
//!
//! Not here: which rows a fan-out rewrites (`feed::render::fanout`), and storing its progress
//! (`storage::queue::fanout`).

use std::sync::Arc;

use tokio::sync::watch;
use tokio_postgres::Client;

use crate::ack::batch::{BegunCount, PendingBatch};
use crate::ack::fanout::{FanoutChunk, StoredFanout};
use crate::ack::memory::{MemoryHold, MemoryPart};
use crate::engine::control::FanoutSettlements;
use crate::engine::feed::emit::NewBatch;
use crate::engine::feed::render::rewrite::RowsToRewrite;
use crate::engine::feed::render::{BatchOutput, Escaping, RowsFrom};
use crate::engine::feed::{FeedCore, FeedError};
use crate::storage::queue::fanout;
use crate::telemetry::trace;
use crate::telemetry::waits::WaitName;

/// Jobs of fan-outs, past which no other batch begins before fan-outs end.
const JOBS_MAX: usize = 10_000;

/// Fan-outs that rewrite the same rows together.
struct Pass {
    fanouts: Vec<i64>,
    rows: RowsToRewrite,
    /// The last key sent, as its parts.
    after: Option<Vec<String>>,
    /// The bytes of `rows`.
    bytes: usize,
}

/// The fan-outs of this slot that are not finished.
pub struct BackgroundFanouts {
    session: Arc<Client>,
    slot: String,
    settled: watch::Receiver<FanoutSettlements>,
    passes: Vec<Pass>,
    /// Fan-outs of rows that the definition has no longer.
    obsolete: Vec<i64>,
    /// The last id that was read.
    last_id: i64,
    /// Fan-outs that batches of this run began, and how many of them settled before the last query.
    begun: u64,
    read: u64,
    /// Jobs of fan-outs that are not read yet.
    unread_jobs: usize,
    /// Chunks sent.
    chunks: u64,
    /// The pass whose turn is next.
    next: usize,
    /// The end of all fan-outs is reported.
    finished: bool,
    /// Counts the bytes of the passes.
    memory: Option<MemoryHold>,
}

impl BackgroundFanouts {
    /// `session` is for single queries.
    #[must_use]
    pub fn new(
        session: Arc<Client>,
        slot: String,
        settled: watch::Receiver<FanoutSettlements>,
    ) -> Self {
        Self {
            session,
            slot,
            settled,
            passes: Vec::new(),
            obsolete: Vec::new(),
            last_id: 0,
            begun: 0,
            read: 0,
            unread_jobs: 0,
            chunks: 0,
            next: 0,
            finished: false,
            memory: None,
        }
    }

    /// Reads the fan-outs that earlier runs began.
    pub(in crate::engine::feed) async fn resume(
        &mut self,
        core: &FeedCore,
    ) -> Result<(), FeedError> {
        let settled = *self.settled.borrow_and_update();
        self.read_begun(core, settled).await?;
        self.report(core);
        Ok(())
    }

    /// Notes the fan-outs that a batch has left to the background, before it is closed.
    pub(super) fn note_begun(&mut self, core: &FeedCore, pending: &PendingBatch) {
        let BegunCount { fanouts, jobs } = pending.begun_fanouts();
        if fanouts > 0 {
            self.begun += fanouts as u64;
            self.unread_jobs += jobs;
            self.report(core);
        }
    }

    /// Returns once there is something to do: fan-outs to read, a chunk to send, an end to report.
    pub(super) async fn ready(&mut self) {
        while !self.is_ready() {
            if self.settled.changed().await.is_err() {
                // The checkpoint has ended, so the run ends.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether [`BackgroundFanouts::step`] has something to do.
    pub(super) fn is_ready(&self) -> bool {
        let settled = *self.settled.borrow();
        settled.begun > self.read
            || (settled.chunks == self.chunks && self.has_work())
            || self.is_finished() != self.finished
    }

    fn has_work(&self) -> bool {
        !self.passes.is_empty() || !self.obsolete.is_empty()
    }

    /// Whether every fan-out has ended, those included that are not read yet.
    fn is_finished(&self) -> bool {
        let settled = *self.settled.borrow();
        !self.has_work() && self.begun == self.read && settled.chunks == self.chunks
    }

    /// Reads the fan-outs that have begun, and sends the next chunk if none is on its way. Beside
    /// another source than the stream, rows that are cached may have changed.
    pub(super) async fn step(
        &mut self,
        core: &mut FeedCore,
        beside: RowsFrom,
    ) -> Result<(), FeedError> {
        if beside == RowsFrom::Tables {
            core.renderer.forget_rows();
        }
        let settled = *self.settled.borrow_and_update();
        if settled.begun > self.read {
            self.read_begun(core, settled).await?;
        }
        if settled.chunks == self.chunks && core.control.may_begin() {
            if !self.obsolete.is_empty() {
                self.end_obsolete(core).await?;
            } else if let Some(number) = self.next_pass() {
                self.send_chunk(core, number).await?;
            }
        }
        self.report(core);
        Ok(())
    }

    /// Sends chunks until other batches may begin.
    pub(super) async fn make_room(
        &mut self,
        core: &mut FeedCore,
        beside: RowsFrom,
    ) -> Result<(), FeedError> {
        while self.job_count() > JOBS_MAX && core.control.may_begin() {
            tokio::select! {
                () = self.ready() => self.step(core, beside).await?,
                () = core.control.changed() => {}
            }
        }
        Ok(())
    }

    fn job_count(&self) -> usize {
        let of_passes = self.passes.iter().map(|pass| pass.rows.job_count()).sum::<usize>();
        of_passes + self.unread_jobs
    }

    async fn read_begun(
        &mut self,
        core: &FeedCore,
        settled: FanoutSettlements,
    ) -> Result<(), FeedError> {
        let stored = fanout::load(&self.session, &self.slot, self.last_id);
        let stored = core.emitter.waits().during(WaitName::Claim, stored).await?;
        self.read = settled.begun;
        if self.read == self.begun {
            self.unread_jobs = 0;
        }
        for fanout in stored {
            self.last_id = self.last_id.max(fanout.id);
            self.add(core, fanout);
        }
        Ok(())
    }

    fn add(&mut self, core: &FeedCore, stored: StoredFanout) {
        let StoredFanout { id, begun, last_key, row_count } = stored;
        let renderer = &core.renderer;
        let Some(rows) = RowsToRewrite::of(begun, renderer.definition(), renderer.shapes()) else {
            self.obsolete.push(id);
            return;
        };
        tracing::info!(
            event = "fanout_begun",
            fanout = id,
            changed = renderer.shapes().of(rows.changed).label(),
            rewritten = renderer.shapes().of(rows.dependent.table).label(),
            rows = row_count,
            "documents that show a changed row are rewritten in the background"
        );
        let after = last_key.and_then(|key| serde_json::from_str(&key).ok());
        match self.passes.iter_mut().find(|pass| pass.after == after && pass.rows.is_same(&rows)) {
            Some(pass) => {
                pass.fanouts.push(id);
                pass.rows.merge(rows);
                pass.bytes = pass.rows.size();
            }
            None => {
                let bytes = rows.size();
                self.passes.push(Pass { fanouts: vec![id], rows, after, bytes });
            }
        }
    }

    /// The pass whose turn it is. One that has not begun waits for one on the same rows that has.
    fn next_pass(&mut self) -> Option<usize> {
        let count = self.passes.len();
        let may_go_on = |number: &usize| {
            let pass = &self.passes[*number];
            let others = self.passes.iter().enumerate().filter(|(other, _)| other != number);
            let waits = |(_, other): (usize, &Pass)| {
                other.after.is_some() && other.rows.is_same(&pass.rows)
            };
            pass.after.is_some() || !others.into_iter().any(waits)
        };
        let number = (0..count).map(|turn| (self.next + turn) % count).find(may_go_on)?;
        self.next = number + 1;
        Some(number)
    }

    async fn send_chunk(&mut self, core: &mut FeedCore, number: usize) -> Result<(), FeedError> {
        let pass = &mut self.passes[number];
        let chunk = core.renderer.rows_to_rewrite(&pass.rows, pass.after.as_deref()).await?;
        let is_last = core.renderer.is_last_chunk(&chunk);
        let shape = core.renderer.shapes().of(pass.rows.dependent.table);
        let after = chunk.last().map(|last| shape.key_parts(&last.row)).filter(|_| !is_last);
        let settles = FanoutChunk {
            fanouts: pass.fanouts.clone(),
            last_key: after.as_ref().and_then(|key| serde_json::to_string(key).ok()),
            row_count: chunk.len() as u64,
        };
        let pending = core.emitter.open(batch(settles));
        self.chunks += 1;
        let output = BatchOutput {
            emitter: &core.emitter,
            pending: &pending,
            escaping: Escaping::ForParser,
        };
        core.renderer.rewrite_chunk(output, &pass.rows, &chunk).await?;
        core.emitter.close(pending).await?;
        pass.after = after;
        if is_last {
            let ended = self.passes.remove(number);
            tracing::info!(
                event = "fanout_done",
                fanouts = ?ended.fanouts,
                "the last documents that show a changed row were sent"
            );
        }
        Ok(())
    }

    /// Ends fan-outs of rows that no document shows any more.
    async fn end_obsolete(&mut self, core: &mut FeedCore) -> Result<(), FeedError> {
        let fanouts = std::mem::take(&mut self.obsolete);
        let chunk = FanoutChunk { fanouts, last_key: None, row_count: 0 };
        let pending = core.emitter.open(batch(chunk));
        self.chunks += 1;
        Ok(core.emitter.close(pending).await?)
    }

    fn report(&mut self, core: &FeedCore) {
        let open: usize = self.passes.iter().map(|pass| pass.fanouts.len()).sum();
        let unread = self.begun.saturating_sub(self.read);
        let bytes = self.passes.iter().map(|pass| pass.bytes).sum();
        let hold = || core.emitter.memory().hold(MemoryPart::Fanouts, 0);
        self.memory.get_or_insert_with(hold).set(bytes);
        self.finished = self.is_finished();
        core.control.set_fanouts_finished(self.finished);
        core.metrics.set_fanouts(open + usize::try_from(unread).unwrap_or_default());
    }
}

/// A batch that moves fan-outs on.
fn batch(chunk: FanoutChunk) -> NewBatch {
    let rows = usize::try_from(chunk.row_count).unwrap_or_default();
    let span = trace::batch("fanout", rows);
    NewBatch { chunk: Some(chunk), span, ..NewBatch::without_jobs() }
}
