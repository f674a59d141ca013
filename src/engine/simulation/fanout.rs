//! The fan-outs of one run in the background, chunk by chunk.
//!
//! A model of `feed::source::background`: one chunk is on its way at a time, and the next follows once
//! its progress is stored. Fan-outs take turns.

use std::sync::Arc;

use tokio::sync::watch;

use super::outside::Outside;
use super::queue::QueuedFanout;
use crate::ack::batch::JobKey;
use crate::ack::fanout::FanoutChunk;
use crate::change::Position;
use crate::engine::control::FanoutSettlements;
use crate::engine::feed::control::FeedControl;

/// A fan-out, and the row that is next.
#[derive(Debug)]
struct FanoutPass {
    id: i64,
    highest: Position,
    jobs: Arc<[JobKey]>,
    next_row: usize,
}

impl FanoutPass {
    fn of(stored: &QueuedFanout) -> Self {
        let jobs = stored.jobs.iter().map(|job| JobKey::Id(job.id)).collect();
        let QueuedFanout { id, highest, next_row, .. } = *stored;
        Self { id, highest, jobs, next_row }
    }
}

/// A chunk to be sent.
pub(super) struct SimulatedChunk {
    pub(super) rows: Vec<usize>,
    pub(super) jobs: Arc<[JobKey]>,
    pub(super) highest: Position,
    pub(super) settles: FanoutChunk,
}

/// The fan-outs that are not finished.
pub(super) struct FanoutModel {
    settled: watch::Receiver<FanoutSettlements>,
    pub(super) rows_max: usize,
    passes: Vec<FanoutPass>,
    last_id: i64,
    read: u64,
    chunks: u64,
    next: usize,
}

impl FanoutModel {
    /// With the fan-outs that earlier runs began. A chunk has so many rows at most.
    pub(super) fn new(
        settled: watch::Receiver<FanoutSettlements>,
        rows_max: usize,
        outside: &mut Outside,
    ) -> Self {
        let mut model =
            Self { settled, rows_max, passes: Vec::new(), last_id: 0, read: 0, chunks: 0, next: 0 };
        model.read_stored(outside);
        outside.resumed += model.passes.iter().filter(|pass| pass.next_row > 0).count() as u64;
        model
    }

    fn read_stored(&mut self, outside: &mut Outside) {
        let stored = outside.queue.fanouts.iter().filter(|stored| stored.id > self.last_id);
        self.passes.extend(stored.map(FanoutPass::of));
        self.last_id = self.passes.iter().map(|pass| pass.id).max().unwrap_or(self.last_id);
        let open: Vec<_> = self.passes.iter().map(|pass| (pass.id, pass.next_row)).collect();
        outside.note(|| format!("feed: fan-outs and their next rows {open:?}"));
    }

    /// Reads the fan-outs that have begun since; false if there are none. So many were begun in this run.
    pub(super) fn read_begun(&mut self, begun: u64, outside: &mut Outside) -> bool {
        let settled = self.settled.borrow().begun;
        assert!(settled <= begun, "{settled} fan-outs have begun, {begun} were left to do so");
        if settled <= self.read {
            return false;
        }
        self.read = settled;
        self.read_stored(outside);
        true
    }

    /// The next chunk; none while one is on its way.
    pub(super) fn next_chunk(
        &mut self,
        control: &FeedControl,
        outside: &mut Outside,
    ) -> Option<SimulatedChunk> {
        let is_free = self.settled.borrow().chunks == self.chunks;
        if !is_free || self.passes.is_empty() || !control.may_begin() {
            return None;
        }
        let number = self.next % self.passes.len();
        self.next = number + 1;
        self.chunks += 1;
        let pass = &mut self.passes[number];
        let rows: Vec<usize> = outside.source.present(pass.next_row).take(self.rows_max).collect();
        let next_row = rows.last().map_or(pass.next_row, |last| last + 1);
        let is_last = rows.len() < self.rows_max;
        let settles = FanoutChunk {
            fanouts: vec![pass.id],
            last_key: (!is_last).then(|| next_row.to_string()),
            row_count: rows.len() as u64,
        };
        outside.note(|| format!("feed: fan-out {} rewrites {rows:?}", pass.id));
        pass.next_row = next_row;
        let chunk =
            SimulatedChunk { rows, jobs: Arc::clone(&pass.jobs), highest: pass.highest, settles };
        if is_last {
            self.passes.remove(number);
        }
        Some(chunk)
    }
}
