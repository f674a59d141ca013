//! Metrics of the replication stream.
//!
//! Not here: the metrics of the slot in the catalog (`slot`).

use std::time::Duration;

use prometheus::local::LocalHistogram;
use prometheus::{Counter, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::registration::{COUNTS, Registration};
use crate::change::Operation;

/// The kind of a failure of the replication connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationFailure {
    /// The connection could not be opened, ended, or timed out.
    Connection,
    /// The server returned an error or is shutting down.
    Server,
    /// Authentication or TLS failed.
    Refused,
    /// A message violates the protocol.
    Protocol,
}

impl ReplicationFailure {
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

/// Metrics of the replication stream. Clones share them.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
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

/// The counters of a table's recorded changes, in the order of [`Operation::ALL`].
#[derive(Debug)]
pub struct ChangeCounters([IntCounter; 4]);

impl ChangeCounters {
    /// Adds the numbers of recorded changes, in the order of [`Operation::ALL`].
    pub fn add(&self, changes: [u64; 4]) {
        self.0.iter().zip(changes).for_each(|(counter, count)| counter.inc_by(count));
    }
}

/// Counts of the stream that are not published yet.
#[derive(Debug)]
pub struct ReceivedCounts {
    transactions: u64,
    /// The number of changes of the current transaction.
    changes: usize,
    sizes: LocalHistogram,
    /// The number of received bytes.
    pub bytes: u64,
    /// The number of received keepalive messages.
    pub keepalives: u64,
    /// The number of sent status updates.
    pub feedbacks: u64,
    /// The time in which the stream was not read because later stages were busy.
    pub held: Duration,
}

impl ReceivedCounts {
    /// Adds changes of configured tables to the current transaction.
    pub fn captured(&mut self, changes: usize) {
        self.changes += changes;
    }

    /// Counts the end of a transaction with changes of configured tables.
    pub fn committed(&mut self) {
        let changes = u32::try_from(std::mem::take(&mut self.changes)).unwrap_or(u32::MAX);
        self.sizes.observe(f64::from(changes));
        self.transactions += 1;
    }

    /// Adds the counts to the metrics and resets them.
    pub fn publish(&mut self, source: &SourceMetrics) {
        let take = std::mem::take::<u64>;
        source.transactions.inc_by(take(&mut self.transactions));
        self.sizes.flush();
        source.received_bytes.inc_by(take(&mut self.bytes));
        source.keepalives.inc_by(take(&mut self.keepalives));
        source.feedbacks.inc_by(take(&mut self.feedbacks));
        source.held_seconds.inc_by(std::mem::take(&mut self.held).as_secs_f64());
    }
}

impl SourceMetrics {
    /// Registers the metrics of the stream.
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let source = Self {
            up: add.gauge("source_up", "1 while the slot is streamed."),
            connects: add.counter("source_connects_total", "Times that streaming has begun."),
            errors: add.counters(
                "source_errors_total",
                "Failures of the replication connection.",
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
            feedbacks: add.counter("source_feedbacks_total", "Status updates sent to the server."),
            held_seconds: add.seconds(
                "source_held_seconds_total",
                "Time that the stream was not read since the stages behind it were busy.",
            ),
        };
        let kinds = ReplicationFailure::ALL.map(ReplicationFailure::as_str);
        kinds.iter().for_each(|kind| drop(source.errors.with_label_values(&[*kind])));
        source
    }

    /// Creates the series of the configured tables at zero.
    pub(super) fn declare(&self, tables: &[String]) {
        for table in tables {
            drop(self.changes(table));
        }
    }

    /// Sets whether this instance streams from the slot. A start of streaming is counted.
    pub fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
        self.connects.inc_by(u64::from(up));
    }

    /// Counts a failure of the replication connection.
    pub fn failed(&self, failure: ReplicationFailure) {
        self.errors.with_label_values(&[failure.as_str()]).inc();
    }

    /// The counters of a table's recorded changes.
    #[must_use]
    pub fn changes(&self, table: &str) -> ChangeCounters {
        let counter =
            |operation: Operation| self.changes.with_label_values(&[table, operation.as_str()]);
        ChangeCounters(Operation::ALL.map(counter))
    }

    /// New counts for the loop that reads the stream.
    #[must_use]
    pub fn receiver(&self) -> ReceivedCounts {
        ReceivedCounts {
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
    use super::ReplicationFailure;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn a_transaction_that_is_received_in_parts_is_counted_once() {
        let metrics = Metrics::new();
        let mut received = metrics.source.receiver();
        received.captured(400);
        received.publish(&metrics.source);
        assert!(metrics.render().contains("walferry_source_transactions_total 0"));
        received.captured(200);
        received.committed();
        received.captured(1);
        received.committed();
        received.publish(&metrics.source);
        received.publish(&metrics.source);
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
    fn starts_and_failures_are_counted() {
        let metrics = Metrics::new();
        metrics.source.set_up(true);
        metrics.source.set_up(false);
        metrics.source.failed(ReplicationFailure::Server);
        metrics.source.set_up(true);
        let text = metrics.render();
        assert!(text.contains("walferry_source_connects_total 2"), "{text}");
        assert!(text.contains("walferry_source_errors_total{kind=\"server\"} 1"), "{text}");
        assert!(text.contains("walferry_source_errors_total{kind=\"refused\"} 0"), "{text}");
    }
}
