//! Metrics of the replication slot: the WAL that it retains, and the WAL that it may retain.
//!
//! Not here: reading the slot (`postgres::catalog::slot`).

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{GaugeVec, IntCounter};

use super::registration::{OptionalGauge, Registration, float, signed_float};

/// The values of the label `status`, which are those of `pg_replication_slots.wal_status`.
const STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// Statistics of the slot at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotStatistics {
    /// True if a session streams from the slot.
    pub active: bool,
    /// The column `wal_status`.
    pub wal_status: Option<String>,
    /// The WAL that the slot retains, in bytes.
    pub retained_bytes: u64,
    /// The WAL after the confirmed position, in bytes.
    pub unconfirmed_bytes: u64,
    /// The WAL in bytes that can be written before the slot can be lost, below zero if it can be
    /// lost already; `None` if it is unlimited.
    pub safe_bytes: Option<i64>,
}

/// Metrics of the slot. Clones share them.
#[derive(Clone, Debug)]
pub struct SlotMetrics {
    active: OptionalGauge,
    status: GaugeVec,
    retained: OptionalGauge,
    unconfirmed: OptionalGauge,
    safe: OptionalGauge,
    spilled_bytes: IntCounter,
    spilled_transactions: IntCounter,
    inspect_errors: IntCounter,
    /// The last values of PostgreSQL's own counters.
    spilled: Arc<Mutex<SpillCounters>>,
}

/// Counters of `pg_stat_replication_slots`, which start at zero after a reset.
#[derive(Debug, Default)]
struct SpillCounters {
    bytes: u64,
    transactions: u64,
}

impl SlotMetrics {
    /// Registers the metrics of the slot.
    pub(super) fn new(add: &Registration<'_>) -> Self {
        Self {
            active: add.optional("slot_active", "1 while a walsender is active."),
            status: add.optionals(
                "slot_wal_status",
                "1 for what PostgreSQL says of the WAL that the slot needs.",
                &["status"],
            ),
            retained: add
                .optional("slot_retained_wal_bytes", "WAL that the slot keeps from removal."),
            unconfirmed: add.optional(
                "slot_unconfirmed_wal_bytes",
                "WAL between the server's end and what is acknowledged.",
            ),
            safe: add.optional(
                "slot_safe_wal_bytes",
                "WAL that can be written before the slot may be lost; absent where unlimited.",
            ),
            spilled_bytes: add.counter(
                "slot_spilled_bytes_total",
                "Bytes of transactions that PostgreSQL decoded by way of its disk.",
            ),
            spilled_transactions: add.counter(
                "slot_spilled_transactions_total",
                "Transactions that PostgreSQL decoded by way of its disk.",
            ),
            inspect_errors: add.counter(
                "slot_inspect_errors_total",
                "Failed queries of the slot, usually because a privilege is missing.",
            ),
            spilled: Arc::default(),
        }
    }

    /// Sets the statistics of the slot.
    pub fn set(&self, statistics: &SlotStatistics) {
        self.active.set(Some(f64::from(u8::from(statistics.active))));
        self.retained.set(Some(float(statistics.retained_bytes)));
        self.unconfirmed.set(Some(float(statistics.unconfirmed_bytes)));
        self.safe.set(statistics.safe_bytes.map(signed_float));
        for status in STATUSES {
            let is = statistics.wal_status.as_deref() == Some(status);
            self.status.with_label_values(&[status]).set(f64::from(u8::from(is)));
        }
    }

    /// Reports that this instance does not stream from the slot any more. The other statistics keep
    /// their last values.
    pub fn run_ended(&self) {
        self.active.set(Some(0.0));
    }

    /// Removes all statistics, because they are unknown.
    pub fn forget(&self) {
        for gauge in [&self.active, &self.retained, &self.unconfirmed, &self.safe] {
            gauge.set(None);
        }
        self.status.reset();
    }

    /// Adds the growth of PostgreSQL's counters of spilled transactions. A counter below its last
    /// value was reset.
    pub fn spilled(&self, bytes: u64, transactions: u64) {
        let mut last = self.spilled.lock().unwrap_or_else(PoisonError::into_inner);
        let growth = |now: u64, before: u64| if now < before { now } else { now - before };
        self.spilled_bytes.inc_by(growth(bytes, last.bytes));
        self.spilled_transactions.inc_by(growth(transactions, last.transactions));
        *last = SpillCounters { bytes, transactions };
    }

    /// Counts a failed read of the slot.
    pub fn inspect_failed(&self) {
        self.inspect_errors.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::SlotStatistics;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn a_slot_has_one_status_and_an_unlimited_one_has_no_safe_size() {
        let metrics = Metrics::new();
        let mut statistics = SlotStatistics {
            active: true,
            wal_status: Some("extended".to_owned()),
            safe_bytes: Some(7),
            ..SlotStatistics::default()
        };
        metrics.slot.set(&statistics);
        let text = metrics.render();
        assert!(text.contains("walferry_slot_wal_status{status=\"extended\"} 1"), "{text}");
        assert!(text.contains("walferry_slot_wal_status{status=\"lost\"} 0"), "{text}");
        assert!(text.contains("walferry_slot_safe_wal_bytes 7"), "{text}");
        statistics.safe_bytes = None;
        metrics.slot.set(&statistics);
        assert!(!metrics.render().contains("walferry_slot_safe_wal_bytes "));
    }

    #[test]
    fn spill_counters_grow_after_a_reset() {
        let metrics = Metrics::new();
        for (bytes, transactions) in [(100, 1), (150, 2), (30, 1)] {
            metrics.slot.spilled(bytes, transactions);
        }
        let text = metrics.render();
        assert!(text.contains("walferry_slot_spilled_bytes_total 180"), "{text}");
        assert!(text.contains("walferry_slot_spilled_transactions_total 3"), "{text}");
    }
}
