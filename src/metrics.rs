//! Every metric: name, labels, help. Nobody else names one.
//!
//! Names are `walferry_<stage>_<what>_<unit>`, with `_total` on counters. Label values are words
//! of this program or names from the configuration, never from rows, so their number is bounded.
//!
//! Not here: when something is counted. Each stage calls a typed method.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Words of the label `mode`: what feeds the sink.
const MODES: &[Mode] = &[Mode::Load, Mode::Table, Mode::Live, Mode::Stopped, Mode::Standby];

/// What feeds the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The rows that were there before the slot.
    Load,
    /// Unfinished jobs of the queue table.
    Table,
    /// The stream itself.
    Live,
    /// Nothing: an operator stopped indexing, or no run is under way.
    Stopped,
    /// Nothing: another instance holds the lease.
    Standby,
}

impl Mode {
    /// The word for people and for the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Table => "table",
            Self::Live => "live",
            Self::Stopped => "stopped",
            Self::Standby => "standby",
        }
    }
}

/// All metrics of one instance. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    mode: IntGaugeVec,
    restarts: IntCounterVec,
    changes: IntCounterVec,
    transactions: IntCounter,
    received_bytes: IntCounter,
    lag_bytes: IntGauge,
    retained_wal_bytes: IntGauge,
    jobs_recorded: IntCounterVec,
    jobs_settled: IntCounterVec,
    documents: IntCounterVec,
    requests: IntCounterVec,
    request_seconds: Histogram,
    bulk_documents: Histogram,
    sent_bytes: IntCounter,
    latency_seconds: Histogram,
    http: Http,
}

/// The HTTP server's.
#[derive(Clone, Debug)]
struct Http {
    requests: IntCounterVec,
    auth_failures: IntCounterVec,
    rate_limited: IntCounter,
}

impl Http {
    fn new(add: &Registration<'_>) -> Self {
        Self {
            requests: add.counters(
                "http_requests_total",
                "Answers of the HTTP server.",
                &["route", "method", "code"],
            ),
            auth_failures: add.counters(
                "http_auth_failures_total",
                "Tokens that were refused.",
                &["reason"],
            ),
            rate_limited: add
                .counter("http_rate_limited_total", "Requests refused for being too many."),
        }
    }
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let add = Registration(&registry);
        let build = add.gauges("build_info", "What runs; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            mode: add.gauges("pipeline_mode", "1 for what feeds the sink now.", &["mode"]),
            restarts: add.counters(
                "pipeline_restarts_total",
                "Runs ended by a fault.",
                &["reason"],
            ),
            changes: add.counters(
                "source_changes_total",
                "Row changes received from the slot.",
                &["table", "operation"],
            ),
            transactions: add
                .counter("source_transactions_total", "Transactions with changes of ours."),
            received_bytes: add
                .counter("source_received_bytes_total", "Bytes received from the slot."),
            lag_bytes: add.gauge(
                "source_lag_bytes",
                "WAL between the server's end and what is acknowledged.",
            ),
            retained_wal_bytes: add
                .gauge("slot_retained_wal_bytes", "WAL that the slot keeps from removal."),
            jobs_recorded: add.counters("queue_jobs_recorded_total", "Jobs written.", &["table"]),
            jobs_settled: add.counters(
                "queue_jobs_settled_total",
                "Jobs by the status they got.",
                &["status"],
            ),
            documents: add.counters(
                "sink_documents_total",
                "Documents answered for by Elasticsearch.",
                &["index", "outcome"],
            ),
            requests: add.counters(
                "sink_bulk_requests_total",
                "Bulk requests by their outcome.",
                &["outcome"],
            ),
            request_seconds: add.histogram(
                "sink_bulk_request_duration_seconds",
                "From a bulk request's first byte to its answer's last.",
                LATENCIES,
            ),
            bulk_documents: add.histogram(
                "sink_bulk_documents",
                "Documents in a bulk request.",
                COUNTS,
            ),
            sent_bytes: add
                .counter("sink_sent_bytes_total", "Bytes of bulk requests before compression."),
            latency_seconds: add.histogram(
                "end_to_end_latency_seconds",
                "From a change's commit to Elasticsearch's answer.",
                LATENCIES,
            ),
            http: Http::new(&add),
            registry,
        };
        metrics.set_mode(Mode::Stopped);
        metrics
    }

    /// What feeds the sink from now on.
    pub fn set_mode(&self, mode: Mode) {
        for other in MODES {
            let value = i64::from(*other == mode);
            self.mode.with_label_values(&[other.as_str()]).set(value);
        }
    }

    /// A run ended by a fault. `reason` is the stage's name.
    pub fn restarted(&self, reason: &'static str) {
        self.restarts.with_label_values(&[reason]).inc();
    }

    /// Row changes received. `table` is a configured name, `operation` a word of `Operation`.
    pub fn changes(&self, table: &str, operation: &'static str, count: u64) {
        self.changes.with_label_values(&[table, operation]).inc_by(count);
    }

    /// A transaction with changes of ours was received to its end.
    pub fn transaction(&self) {
        self.transactions.inc();
    }

    /// Bytes received from the slot.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.inc_by(bytes);
    }

    /// WAL between the server's end and what is acknowledged, in bytes.
    pub fn set_lag(&self, bytes: u64) {
        self.lag_bytes.set(signed(bytes));
    }

    /// WAL that the slot keeps from removal, in bytes.
    pub fn set_retained_wal(&self, bytes: u64) {
        self.retained_wal_bytes.set(signed(bytes));
    }

    /// Jobs written. `table` is a configured name.
    pub fn jobs_recorded(&self, table: &str, count: u64) {
        self.jobs_recorded.with_label_values(&[table]).inc_by(count);
    }

    /// Jobs that got a status: `completed`, `pending` (again) or `failed`.
    pub fn jobs_settled(&self, status: &'static str, count: u64) {
        self.jobs_settled.with_label_values(&[status]).inc_by(count);
    }

    /// Documents answered for. `index` is a configured name, `outcome` a verdict's word.
    pub fn documents(&self, index: &str, outcome: &'static str, count: u64) {
        self.documents.with_label_values(&[index, outcome]).inc_by(count);
    }

    /// One bulk request came to its end; `outcome` is a word such as `answered`, `throttled`,
    /// `timeout`.
    pub fn bulk_request(
        &self,
        outcome: &'static str,
        documents: usize,
        bytes: u64,
        took: Duration,
    ) {
        self.requests.with_label_values(&[outcome]).inc();
        self.request_seconds.observe(took.as_secs_f64());
        self.bulk_documents.observe(f64::from(u32::try_from(documents).unwrap_or(u32::MAX)));
        self.sent_bytes.inc_by(bytes);
    }

    /// The time from a change's commit to Elasticsearch's answer.
    pub fn latency(&self, took: Duration) {
        self.latency_seconds.observe(took.as_secs_f64());
    }

    /// A token was refused.
    pub fn http_auth_failure(&self, reason: &str) {
        self.http.auth_failures.with_label_values(&[reason]).inc();
    }

    /// A request was one too many.
    pub fn http_rate_limited(&self) {
        self.http.rate_limited.inc();
    }

    /// An answer of the HTTP server. `route` is the route's pattern, never a request's path.
    pub fn http_request(&self, route: &str, method: &'static str, code: u16) {
        self.http.requests.with_label_values(&[route, method, &code.to_string()]).inc();
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut families = self.registry.gather();
        // The process' own figures have names that every dashboard knows, so no prefix.
        families.extend(prometheus::process_collector::ProcessCollector::for_self().collect());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text).expect("a Vec takes what is written");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Seconds, from 5 ms to 10 min.
const LATENCIES: &[f64] =
    &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const COUNTS: &[f64] = &[1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

/// Puts metrics into the registry under the common prefix.
struct Registration<'a>(&'a Registry);

impl Registration<'_> {
    fn counter(&self, name: &'static str, help: &'static str) -> IntCounter {
        self.add(IntCounter::with_opts(options(name, help)))
    }

    fn counters(&self, name: &'static str, help: &'static str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(options(name, help), labels))
    }

    fn gauge(&self, name: &'static str, help: &'static str) -> IntGauge {
        self.add(IntGauge::with_opts(options(name, help)))
    }

    fn gauges(&self, name: &'static str, help: &'static str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(options(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options =
            HistogramOpts::new(name, help).namespace("walferry").buckets(buckets.to_vec());
        self.add(Histogram::with_opts(options))
    }

    fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("names and labels in this file are valid");
        let registered = self.0.register(Box::new(collector.clone()));
        registered.expect("names in this file differ");
        collector
    }
}

fn options(name: &'static str, help: &'static str) -> Opts {
    Opts::new(name, help).namespace("walferry")
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Metrics, Mode};

    #[test]
    fn one_mode_is_one_and_the_others_are_zero() {
        let metrics = Metrics::new();
        metrics.set_mode(Mode::Live);
        metrics.set_mode(Mode::Table);
        let text = metrics.render();
        assert!(text.contains("walferry_pipeline_mode{mode=\"table\"} 1"), "{text}");
        assert_eq!(text.matches("walferry_pipeline_mode{").count(), 5);
        assert_eq!(text.matches("\"} 1\n").count(), 2, "build_info and the mode");
    }

    #[test]
    fn names_follow_the_naming_rule() {
        let metrics = Metrics::new();
        metrics.changes("listings", "INSERT", 2);
        let text = metrics.render();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(name.starts_with("walferry_") || name.starts_with("process_"), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
        let expected = "walferry_source_changes_total{operation=\"INSERT\",table=\"listings\"} 2";
        assert!(text.contains(expected), "{text}");
    }
}
