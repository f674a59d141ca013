//! The definitions of all metrics: names, labels and help texts.
//!
//! Names are `walferry_<stage>_<what>_<unit>`, with the suffix `_total` on counters. Label values
//! are constant words or names from the configuration, never row values, so the number of series
//! is bounded. Stages update counters once for each batch. A scrape reads memory only.
//!
//! Not here: the time at which something is counted. Each stage calls a typed method.

pub mod http;
pub mod lag;
pub mod log;
mod memory;
pub mod operation;
pub mod pipeline;
mod process;
pub mod queue;
mod registration;
pub mod sink;
pub mod slot;
pub mod source;
mod wait;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::{Encoder, Registry, TextEncoder};

pub use http::HttpMetrics;
pub use operation::OperationMetrics;
pub use pipeline::{PipelineMetrics, Stage};
pub use queue::QueueMetrics;
pub use registration::MetricDescription;
pub use sink::SinkMetrics;
pub use slot::SlotMetrics;
pub use source::SourceMetrics;

use crate::ack::memory::Memory;
use crate::telemetry::mode::{Activity, FeedMode};
use crate::telemetry::waits::Waits;
use memory::MemoryMetrics;
use registration::Registration;
use wait::WaitMetrics;

/// All metrics of one instance. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    descriptions: Arc<[MetricDescription]>,
    /// The pipeline as a whole.
    pub pipeline: PipelineMetrics,
    /// The stream.
    pub source: SourceMetrics,
    /// The replication slot.
    pub slot: SlotMetrics,
    /// The requests to Elasticsearch.
    pub sink: SinkMetrics,
    /// The queue table.
    pub queue: QueueMetrics,
    /// Operations beside the stream.
    pub operation: OperationMetrics,
    /// The HTTP server.
    pub http: HttpMetrics,
    /// The waits of the pipeline, which the metrics show.
    pub waits: Waits,
    wait: WaitMetrics,
    /// The bytes that the pipeline holds, which the metrics show.
    pub memory: Memory,
    held: MemoryMetrics,
}

impl Metrics {
    /// All metrics at zero, in their own registry.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let add = Registration::new(&registry);
        let build = add.gauges("build_info", "What runs; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        log::register(&add);
        Self {
            pipeline: PipelineMetrics::new(&add),
            source: SourceMetrics::new(&add),
            slot: SlotMetrics::new(&add),
            sink: SinkMetrics::new(&add),
            queue: QueueMetrics::new(&add),
            operation: OperationMetrics::new(&add),
            http: HttpMetrics::new(&add),
            wait: WaitMetrics::new(&add),
            waits: Waits::default(),
            held: MemoryMetrics::new(&add),
            memory: Memory::default(),
            descriptions: add.into_descriptions().into(),
            registry,
        }
    }

    /// All metrics of walferry, with and without samples. The metrics of the process are not
    /// included.
    #[must_use]
    pub fn descriptions(&self) -> &[MetricDescription] {
        &self.descriptions
    }

    /// Creates the series of the configured tables and indices at zero, so that Prometheus sees the
    /// first increment. `indices` are the aliases, prefix included.
    pub fn declare(&self, tables: &[String], indices: &[String]) {
        self.pipeline.declare(tables);
        self.source.declare(tables);
        self.sink.declare(indices);
        self.queue.declare(indices);
    }

    /// Reports the end of a run. The state of the server is unknown until the next run.
    pub fn run_ended(&self) {
        self.pipeline.set_mode(Activity::Feeding(FeedMode::Starting));
        self.source.set_up(false);
        self.slot.run_ended();
    }

    /// Reports that another instance does the work and reports the metrics of the server.
    pub fn stands_by(&self) {
        self.pipeline.stands_by();
        self.source.set_up(false);
        self.slot.forget();
        self.queue.forget();
        self.operation.forget();
    }

    /// Counts a rejected token. `reason` is a constant word.
    pub fn http_auth_failure(&self, reason: &str) {
        self.http.auth_failure(reason);
    }

    /// Counts a request that exceeded the rate limit.
    pub fn http_rate_limited(&self) {
        self.http.rate_limited();
    }

    /// Counts a response of the HTTP server. `route` is the pattern of the route, not the path.
    pub fn http_request(&self, route: &str, method: &'static str, code: u16, took: Duration) {
        self.http.request(route, method, code, took);
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.pipeline.refresh(lag::seconds(SystemTime::now()));
        self.wait.refresh(&self.waits);
        self.held.refresh(&self.memory);
        let mut families = self.registry.gather();
        // The metrics of the process have standard names without a prefix.
        families.extend(process::gather());
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

#[cfg(test)]
mod tests {
    use super::{Activity, FeedMode, Metrics};

    #[test]
    fn the_current_mode_is_one_and_the_others_are_zero() {
        let metrics = Metrics::new();
        metrics.pipeline.set_mode(Activity::Feeding(FeedMode::Live));
        metrics.pipeline.set_mode(Activity::Feeding(FeedMode::Table));
        let text = metrics.render();
        assert!(text.contains("walferry_pipeline_mode{mode=\"table\"} 1"), "{text}");
        assert_eq!(text.matches("walferry_pipeline_mode{").count(), 6);
    }

    #[test]
    fn names_follow_the_naming_rule() {
        let metrics = Metrics::new();
        metrics.declare(&["listings".to_owned()], &["listings".to_owned()]);
        metrics.source.changes("listings").add([2, 0, 0, 0]);
        let text = metrics.render();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(name.starts_with("walferry_") || name.starts_with("process_"), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
        let expected = "walferry_source_changes_total{operation=\"INSERT\",table=\"listings\"} 2";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn an_unknown_value_has_no_sample() {
        let text = Metrics::new().render();
        for name in ["lag_seconds", "lag_bytes", "safe_wal_bytes", "slot_active", "queue_jobs{"] {
            let sample = |line: &&str| line.contains(name) && !line.starts_with('#');
            assert_eq!(text.lines().find(sample), None, "{text}");
        }
    }
}
