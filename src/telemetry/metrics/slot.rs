//! The slot as the server sees it: what it holds back, and how long that may go on.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{GaugeVec, IntCounter};

use super::registration::{Optional, Registration, real, signed};

/// Words of the label `status`: PostgreSQL's of `wal_status`.
const STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// What one look at the slot found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub active: bool,
    pub wal_status: Option<String>,
    pub retained_bytes: u64,
    /// Between the server's end and what is acknowledged.
    pub unconfirmed_bytes: u64,
    /// Bytes until the slot is in danger, below zero once it is; `None` where there is no limit.
    pub safe_bytes: Option<i64>,
}

/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct Slot {
    active: Optional,
    status: GaugeVec,
    retained: Optional,
    unconfirmed: Optional,
    safe: Optional,
    spilled_bytes: IntCounter,
    spilled_transactions: IntCounter,
    inspect_errors: IntCounter,
    /// What PostgreSQL last told of spilling, which it counts since its own reset.
    spilled: Arc<Mutex<(u64, u64)>>,
}

impl Slot {
    pub(super) fn new(add: &Registration<'_>) -> Self {
        Self {
            active: add.optional("slot_active", "1 while somebody reads the slot."),
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
                "Looks at the slot that failed, for want of a privilege as a rule.",
            ),
            spilled: Arc::default(),
        }
    }

    /// What a look at the slot found.
    pub fn set(&self, figures: &Figures) {
        self.active.set(Some(f64::from(u8::from(figures.active))));
        self.retained.set(Some(real(figures.retained_bytes)));
        self.unconfirmed.set(Some(real(figures.unconfirmed_bytes)));
        self.safe.set(figures.safe_bytes.map(signed));
        for status in STATUSES {
            let is = figures.wal_status.as_deref() == Some(status);
            self.status.with_label_values(&[status]).set(f64::from(u8::from(is)));
        }
    }

    /// The run is over: nobody of ours reads the slot, and the rest cannot be known.
    pub fn left(&self) {
        self.active.set(Some(0.0));
    }

    /// Nothing can be known now.
    pub fn forget(&self) {
        for gauge in [&self.active, &self.retained, &self.unconfirmed, &self.safe] {
            gauge.set(None);
        }
        self.status.reset();
    }

    /// PostgreSQL's counts of what it spilled. They begin anew when somebody resets them.
    pub fn spilled(&self, bytes: u64, transactions: u64) {
        let mut known = self.spilled.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |now: u64, before: u64| if now < before { now } else { now - before };
        self.spilled_bytes.inc_by(since(bytes, known.0));
        self.spilled_transactions.inc_by(since(transactions, known.1));
        *known = (bytes, transactions);
    }

    /// A look failed.
    pub fn inspect_failed(&self) {
        self.inspect_errors.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::Figures;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn a_slot_has_one_status_and_no_limit_where_there_is_none() {
        let metrics = Metrics::new();
        let mut figures = Figures {
            active: true,
            wal_status: Some("extended".to_owned()),
            safe_bytes: Some(7),
            ..Figures::default()
        };
        metrics.slot.set(&figures);
        let text = metrics.render();
        assert!(text.contains("walferry_slot_wal_status{status=\"extended\"} 1"), "{text}");
        assert!(text.contains("walferry_slot_wal_status{status=\"lost\"} 0"), "{text}");
        assert!(text.contains("walferry_slot_safe_wal_bytes 7"), "{text}");
        figures.safe_bytes = None;
        metrics.slot.set(&figures);
        assert!(!metrics.render().contains("walferry_slot_safe_wal_bytes "));
    }

    #[test]
    fn spilling_goes_on_counting_after_a_reset() {
        let metrics = Metrics::new();
        for (bytes, transactions) in [(100, 1), (150, 2), (30, 1)] {
            metrics.slot.spilled(bytes, transactions);
        }
        let text = metrics.render();
        assert!(text.contains("walferry_slot_spilled_bytes_total 180"), "{text}");
        assert!(text.contains("walferry_slot_spilled_transactions_total 3"), "{text}");
    }
}
