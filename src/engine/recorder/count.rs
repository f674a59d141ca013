//! Counts recorded changes and the time that recording takes, once a batch.

use std::time::Duration;

use crate::ack::memory::Memory;
use crate::change::{Change, Operation};
use crate::telemetry::metrics::source::ChangeCounters;
use crate::telemetry::metrics::{Metrics, PipelineMetrics, Stage};
use crate::telemetry::waits::Waits;

/// A counter for each table of the definition and each operation, and the stage's duration.
#[derive(Debug)]
pub struct RecorderMetrics {
    pipeline: PipelineMetrics,
    /// What the recorder waits for.
    pub(super) waits: Waits,
    /// What the recorder holds.
    pub(super) memory: Memory,
    tables: Vec<ChangeCounters>,
    /// Of the batch at hand.
    sums: Vec<[u64; 4]>,
}

impl RecorderMetrics {
    /// `tables` are the labels of the definition's tables, in its order.
    #[must_use]
    pub fn new(metrics: &Metrics, tables: &[String]) -> Self {
        let counters: Vec<ChangeCounters> =
            tables.iter().map(|table| metrics.source.changes(table)).collect();
        let sums = vec![[0; 4]; counters.len()];
        let waits = metrics.waits.clone();
        let memory = metrics.memory.clone();
        Self { pipeline: metrics.pipeline.clone(), waits, memory, tables: counters, sums }
    }

    /// One batch was written, which took this long.
    pub(super) fn recorded(&mut self, changes: &[Change], took: Duration) {
        self.pipeline.stage(Stage::Record, took);
        for change in changes {
            let operation = match change.operation {
                Operation::Insert => 0,
                Operation::Update => 1,
                Operation::Delete => 2,
                Operation::Truncate => 3,
            };
            if let Some(sums) = self.sums.get_mut(usize::from(change.table.0)) {
                sums[operation] += 1;
            }
        }
        for (counters, sums) in self.tables.iter().zip(&mut self.sums) {
            counters.add(std::mem::take(sums));
        }
    }
}
