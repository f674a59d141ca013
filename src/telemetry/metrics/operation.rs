//! Metrics of operations beside the stream.
//!
//! Not here: reading their table (`admin::figures`).

use prometheus::GaugeVec;

use super::registration::{OptionalGauge, Registration, float};

/// An operation that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningOperation<'a> {
    pub kind: &'a str,
    pub rows: u64,
    pub rows_estimated: u64,
}

/// Metrics of operations. Clones share them.
#[derive(Clone, Debug)]
pub struct OperationMetrics {
    count: GaugeVec,
    rows: GaugeVec,
    progress: GaugeVec,
    differences: OptionalGauge,
}

impl OperationMetrics {
    /// Registers the metrics of operations.
    pub(super) fn new(add: &Registration<'_>) -> Self {
        Self {
            count: add.optionals("operations", "Operations beside the stream.", &["kind", "state"]),
            rows: add.optionals(
                "operation_rows",
                "Rows that the running operation has done; 0 without one.",
                &["kind"],
            ),
            progress: add.optionals(
                "operation_progress_ratio",
                "Part of its estimated rows that the running operation has done; 0 without one.",
                &["kind"],
            ),
            differences: add.optional(
                "operation_differences",
                "Documents that the newest whole verification of each table found to differ, without the repaired.",
            ),
        }
    }

    /// Sets how many operations of a kind are in a state.
    pub fn set_count(&self, kind: &str, state: &str, operations: u64) {
        self.count.with_label_values(&[kind, state]).set(float(operations));
    }

    /// Sets the progress of the running operation; of each kind that does not run, 0.
    pub fn set_running(&self, kinds: &[&str], running: Option<RunningOperation<'_>>) {
        for kind in kinds {
            let own = running.filter(|running| running.kind == *kind);
            let rows = own.map_or(0, |running| running.rows);
            let estimated = own.map_or(1, |running| running.rows_estimated).max(rows).max(1);
            self.rows.with_label_values(&[kind]).set(float(rows));
            self.progress.with_label_values(&[kind]).set(float(rows) / float(estimated));
        }
    }

    /// Sets how many documents differ.
    pub fn set_differences(&self, documents: u64) {
        self.differences.set(Some(float(documents)));
    }

    /// Removes the figures, because another instance reports them.
    pub fn forget(&self) {
        for gauge in [&self.count, &self.rows, &self.progress] {
            gauge.reset();
        }
        self.differences.set(None);
    }
}
