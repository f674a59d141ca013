//! Counts recorded changes, a batch at a time.

use crate::change::{Change, Operation};
use crate::telemetry::metrics::source::{ChangeCounters, SourceMetrics};

/// A counter for each table of the definition and each operation.
#[derive(Debug)]
pub struct Counters {
    tables: Vec<ChangeCounters>,
    /// Of the batch at hand.
    sums: Vec<[u64; 4]>,
}

impl Counters {
    /// `tables` are the labels of the definition's tables, in its order.
    #[must_use]
    pub fn new(metrics: &SourceMetrics, tables: &[String]) -> Self {
        let counters: Vec<ChangeCounters> =
            tables.iter().map(|table| metrics.changes(table)).collect();
        Self { sums: vec![[0; 4]; counters.len()], tables: counters }
    }

    pub(super) fn count(&mut self, changes: &[Change]) {
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
