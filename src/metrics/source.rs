//! What comes from the slot.

use std::time::Duration;

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge};

use super::registration::Registration;

/// Words of the label `operation`, in the order of [`Changes::add`].
const OPERATIONS: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"];

/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct Source {
    up: IntGauge,
    changes: IntCounterVec,
    transactions: IntCounter,
    received_bytes: IntCounter,
    keepalives: IntCounter,
    feedbacks: IntCounter,
    held_seconds: Counter,
}

/// A table's recorded changes.
#[derive(Debug)]
pub struct Changes([IntCounter; 4]);

impl Changes {
    /// So many inserts, updates, deletes and truncations were recorded.
    pub fn add(&self, changes: [u64; 4]) {
        self.0.iter().zip(changes).for_each(|(counter, count)| counter.inc_by(count));
    }
}

/// What the stream's loop has added up since it last said so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    pub transactions: u64,
    pub bytes: u64,
    pub keepalives: u64,
    pub feedbacks: u64,
    /// The stream was not read because the stages behind it were busy.
    pub held: Duration,
}

impl Source {
    pub(super) fn new(add: &Registration<'_>) -> Self {
        Self {
            up: add.gauge("source_up", "1 while the slot is streamed."),
            changes: add.counters(
                "source_changes_total",
                "Row changes of the slot that were recorded, each as a job; replays do not count.",
                &["table", "operation"],
            ),
            transactions: add
                .counter("source_transactions_total", "Transactions with changes of ours."),
            received_bytes: add
                .counter("source_received_bytes_total", "Bytes received from the slot."),
            keepalives: add
                .counter("source_keepalives_total", "Keepalives received from the server."),
            feedbacks: add.counter("source_feedbacks_total", "Positions told to the server."),
            held_seconds: add.seconds(
                "source_held_seconds_total",
                "Time that the stream was not read since the stages behind it were busy.",
            ),
        }
    }

    pub(super) fn declare(&self, tables: &[String]) {
        for table in tables {
            drop(self.changes(table));
        }
    }

    /// Whether the slot is streamed.
    pub fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// The counters of a table's recorded changes.
    #[must_use]
    pub fn changes(&self, table: &str) -> Changes {
        Changes(OPERATIONS.map(|operation| self.changes.with_label_values(&[table, operation])))
    }

    /// What has been received since the last call.
    pub fn received(&self, received: Received) {
        self.transactions.inc_by(received.transactions);
        self.received_bytes.inc_by(received.bytes);
        self.keepalives.inc_by(received.keepalives);
        self.feedbacks.inc_by(received.feedbacks);
        self.held_seconds.inc_by(received.held.as_secs_f64());
    }
}
