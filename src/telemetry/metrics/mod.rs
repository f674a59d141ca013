//! Every metric: name, labels, help. Nobody else names one.
//!
//! Names are `walferry_<stage>_<what>_<unit>`, with `_total` on counters. Label values are words
//! of this program or names from the configuration, never from rows, so their number is bounded.
//! Stages count batches, never single changes, and an answer to a scrape is made from memory.
//!
//! Not here: when something is counted. Each stage calls a typed method.

pub mod http;
pub mod lag;
pub mod log;
pub mod pipeline;
mod process;
pub mod queue;
mod registration;
pub mod sink;
pub mod slot;
pub mod source;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::{Encoder, Registry, TextEncoder};

pub use http::Http;
pub use pipeline::{Mode, Pipeline, Stage};
pub use queue::Queue;
pub use registration::MetricDescription;
pub use sink::Sink;
pub use slot::Slot;
pub use source::Source;

use registration::Registration;

/// All metrics of one instance. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    descriptions: Arc<[MetricDescription]>,
    pub pipeline: Pipeline,
    pub source: Source,
    pub slot: Slot,
    pub sink: Sink,
    pub queue: Queue,
    pub http: Http,
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let add = Registration::new(&registry);
        let build = add.gauges("build_info", "What runs; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        log::register(&add);
        Self {
            pipeline: Pipeline::new(&add),
            source: Source::new(&add),
            slot: Slot::new(&add),
            sink: Sink::new(&add),
            queue: Queue::new(&add),
            http: Http::new(&add),
            descriptions: add.into_descriptions().into(),
            registry,
        }
    }

    /// Every metric of walferry's own, whether it has a sample or not.
    #[must_use]
    pub fn descriptions(&self) -> &[MetricDescription] {
        &self.descriptions
    }

    /// Makes the series of the configured tables and indices, so that a first increment is seen
    /// as one. `indices` are the aliases, prefix included.
    pub fn declare(&self, tables: &[String], indices: &[String]) {
        self.pipeline.declare(tables);
        self.source.declare(tables);
        self.sink.declare(indices);
    }

    /// A run is over; nothing of the server's is known until the next.
    pub fn run_ended(&self) {
        self.pipeline.set_mode(Mode::Starting);
        self.source.set_up(false);
        self.slot.left();
    }

    /// Another instance does the work, and tells of it.
    pub fn stands_by(&self) {
        self.pipeline.stands_by();
        self.source.set_up(false);
        self.slot.forget();
        self.queue.forget();
    }

    /// A token was refused.
    pub fn http_auth_failure(&self, reason: &str) {
        self.http.auth_failure(reason);
    }

    /// A request was one too many.
    pub fn http_rate_limited(&self) {
        self.http.rate_limited();
    }

    /// An answer of the HTTP server. `route` is the route's pattern, never a request's path.
    pub fn http_request(&self, route: &str, method: &'static str, code: u16, took: Duration) {
        self.http.request(route, method, code, took);
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.pipeline.refresh(lag::seconds(SystemTime::now()));
        let mut families = self.registry.gather();
        // The process' own figures have names that every dashboard knows, so no prefix.
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
    use super::{Metrics, Mode};

    #[test]
    fn one_mode_is_one_and_the_others_are_zero() {
        let metrics = Metrics::new();
        metrics.pipeline.set_mode(Mode::Live);
        metrics.pipeline.set_mode(Mode::Table);
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
    fn what_is_not_known_has_no_sample() {
        let text = Metrics::new().render();
        for name in ["lag_seconds", "lag_bytes", "safe_wal_bytes", "slot_active", "queue_jobs{"] {
            let sample = |line: &&str| line.contains(name) && !line.starts_with('#');
            assert_eq!(text.lines().find(sample), None, "{text}");
        }
    }
}
