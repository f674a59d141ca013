//! What comes from the slot.

use std::time::Duration;

use prometheus::local::LocalHistogram;
use prometheus::{Counter, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::registration::{COUNTS, Registration};

/// Words of the label `operation`, in the order of [`Changes::add`].
const OPERATIONS: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"];

/// What failed of the replication connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was not had, or broke, or went silent.
    Connection,
    /// The server does not do what is asked, or goes down.
    Server,
    /// Password or TLS.
    Refused,
    /// What came is not what the protocol says.
    Protocol,
}

impl Failure {
    const ALL: [Self; 4] = [Self::Connection, Self::Server, Self::Refused, Self::Protocol];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }
}

/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct Source {
    up: IntGauge,
    connects: IntCounter,
    errors: IntCounterVec,
    changes: IntCounterVec,
    transactions: IntCounter,
    transaction_changes: Histogram,
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
#[derive(Debug)]
pub struct Received {
    transactions: u64,
    /// Changes of the transaction that is being received.
    changes: usize,
    sizes: LocalHistogram,
    pub bytes: u64,
    pub keepalives: u64,
    pub feedbacks: u64,
    /// The stream was not read because the stages behind it were busy.
    pub held: Duration,
}

impl Received {
    /// Changes of ours came.
    pub fn captured(&mut self, changes: usize) {
        self.changes += changes;
    }

    /// A transaction with changes of ours ended.
    pub fn committed(&mut self) {
        let changes = u32::try_from(std::mem::take(&mut self.changes)).unwrap_or(u32::MAX);
        self.sizes.observe(f64::from(changes));
        self.transactions += 1;
    }

    /// Adds it to what others see, and begins anew.
    pub fn tell(&mut self, source: &Source) {
        let take = std::mem::take::<u64>;
        source.transactions.inc_by(take(&mut self.transactions));
        self.sizes.flush();
        source.received_bytes.inc_by(take(&mut self.bytes));
        source.keepalives.inc_by(take(&mut self.keepalives));
        source.feedbacks.inc_by(take(&mut self.feedbacks));
        source.held_seconds.inc_by(std::mem::take(&mut self.held).as_secs_f64());
    }
}

impl Source {
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let source = Self {
            up: add.gauge("source_up", "1 while the slot is streamed."),
            connects: add.counter("source_connects_total", "Times that streaming has begun."),
            errors: add.counters(
                "source_errors_total",
                "Failures that the replication connection itself has told of.",
                &["kind"],
            ),
            changes: add.counters(
                "source_changes_total",
                "Row changes of the slot that were recorded, each as a job; replays do not count.",
                &["table", "operation"],
            ),
            transactions: add
                .counter("source_transactions_total", "Transactions with changes of ours."),
            transaction_changes: add.histogram(
                "source_transaction_changes",
                "Changes of ours in a transaction that has any.",
                COUNTS,
            ),
            received_bytes: add
                .counter("source_received_bytes_total", "Bytes received from the slot."),
            keepalives: add
                .counter("source_keepalives_total", "Keepalives received from the server."),
            feedbacks: add.counter("source_feedbacks_total", "Positions told to the server."),
            held_seconds: add.seconds(
                "source_held_seconds_total",
                "Time that the stream was not read since the stages behind it were busy.",
            ),
        };
        let kinds = Failure::ALL.map(Failure::as_str);
        kinds.iter().for_each(|kind| drop(source.errors.with_label_values(&[*kind])));
        source
    }

    pub(super) fn declare(&self, tables: &[String]) {
        for table in tables {
            drop(self.changes(table));
        }
    }

    /// Whether the slot is streamed.
    pub fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
        self.connects.inc_by(u64::from(up));
    }

    /// The replication connection was not had, or has failed.
    pub fn failed(&self, failure: Failure) {
        self.errors.with_label_values(&[failure.as_str()]).inc();
    }

    /// The counters of a table's recorded changes.
    #[must_use]
    pub fn changes(&self, table: &str) -> Changes {
        Changes(OPERATIONS.map(|operation| self.changes.with_label_values(&[table, operation])))
    }

    /// Where the stream's loop adds up what it receives.
    #[must_use]
    pub fn receiver(&self) -> Received {
        Received {
            transactions: 0,
            changes: 0,
            sizes: self.transaction_changes.local(),
            bytes: 0,
            keepalives: 0,
            feedbacks: 0,
            held: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn a_transaction_that_comes_in_parts_is_counted_once_and_whole() {
        let metrics = Metrics::new();
        let mut received = metrics.source.receiver();
        received.captured(400);
        received.tell(&metrics.source);
        assert!(metrics.render().contains("walferry_source_transactions_total 0"));
        received.captured(200);
        received.committed();
        received.captured(1);
        received.committed();
        received.tell(&metrics.source);
        received.tell(&metrics.source);
        let text = metrics.render();
        for line in [
            "walferry_source_transactions_total 2",
            "walferry_source_transaction_changes_count 2",
            "walferry_source_transaction_changes_sum 601",
            "walferry_source_transaction_changes_bucket{le=\"500\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn beginnings_and_failures_are_counted() {
        let metrics = Metrics::new();
        metrics.source.set_up(true);
        metrics.source.set_up(false);
        metrics.source.failed(Failure::Server);
        metrics.source.set_up(true);
        let text = metrics.render();
        assert!(text.contains("walferry_source_connects_total 2"), "{text}");
        assert!(text.contains("walferry_source_errors_total{kind=\"server\"} 1"), "{text}");
        assert!(text.contains("walferry_source_errors_total{kind=\"refused\"} 0"), "{text}");
    }
}
