//! Registers metrics under the common prefix `walferry_`.
//!
//! Not here: the metrics, which the other modules define.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

/// Histogram buckets in seconds, from 5 ms to 10 min.
pub(super) const LATENCIES: &[f64] =
    &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Histogram buckets for the number of items in a batch.
pub(super) const COUNTS: &[f64] =
    &[1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

/// Histogram buckets in bytes, from 1 KiB to 64 MiB.
pub(super) const SIZES: &[f64] =
    &[1024.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// The declaration of a metric.
#[derive(Clone, Debug)]
pub struct MetricDescription {
    /// The name with the prefix.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of the labels.
    pub labels: Vec<String>,
    /// The help text.
    pub help: String,
}

/// Creates metrics and registers them.
pub(super) struct Registration<'a> {
    registry: &'a Registry,
    descriptions: RefCell<Vec<MetricDescription>>,
}

impl<'a> Registration<'a> {
    pub(super) const fn new(registry: &'a Registry) -> Self {
        Self { registry, descriptions: RefCell::new(Vec::new()) }
    }

    /// The declarations of all registered metrics, in the order of registration.
    pub(super) fn into_descriptions(self) -> Vec<MetricDescription> {
        self.descriptions.into_inner()
    }

    pub(super) fn counter(&self, name: &'static str, help: &'static str) -> IntCounter {
        self.add(IntCounter::with_opts(options(name, help)))
    }

    /// A counter of seconds.
    pub(super) fn seconds(&self, name: &'static str, help: &'static str) -> Counter {
        self.add(Counter::with_opts(options(name, help)))
    }

    pub(super) fn counters(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
    ) -> IntCounterVec {
        self.add(IntCounterVec::new(options(name, help), labels))
    }

    pub(super) fn gauge(&self, name: &'static str, help: &'static str) -> IntGauge {
        self.add(IntGauge::with_opts(options(name, help)))
    }

    pub(super) fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
    ) -> IntGaugeVec {
        self.add(IntGaugeVec::new(options(name, help), labels))
    }

    /// A gauge with a floating-point value.
    pub(super) fn float_gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.add(Gauge::with_opts(options(name, help)))
    }

    /// A gauge without a sample while its value is unknown.
    pub(super) fn optional(&self, name: &'static str, help: &'static str) -> OptionalGauge {
        OptionalGauge(self.add(GaugeVec::new(options(name, help), &[])))
    }

    pub(super) fn optionals(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[&str],
    ) -> GaugeVec {
        self.add(GaugeVec::new(options(name, help), labels))
    }

    pub(super) fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        buckets: &[f64],
    ) -> Histogram {
        self.add(Histogram::with_opts(buckets_of(name, help, buckets)))
    }

    pub(super) fn histograms(
        &self,
        name: &'static str,
        help: &'static str,
        label: &str,
        buckets: &[f64],
    ) -> HistogramVec {
        self.add(HistogramVec::new(buckets_of(name, help, buckets), &[label]))
    }

    /// Registers a collector.
    pub(super) fn add<C: Collector + Clone + 'static>(&self, created: prometheus::Result<C>) -> C {
        let collector = created.expect("names and labels in these files are valid");
        let registered = self.registry.register(Box::new(collector.clone()));
        registered.expect("names in these files differ");
        self.descriptions.borrow_mut().extend(descriptions(&collector));
        collector
    }
}

fn descriptions(collector: &impl Collector) -> Vec<MetricDescription> {
    let families = collector.collect();
    let described = collector.desc().into_iter().zip(&families);
    let describe = described.map(|(desc, family)| MetricDescription {
        name: desc.fq_name.clone(),
        kind: match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        },
        labels: desc.variable_labels.clone(),
        help: desc.help.clone(),
    });
    describe.collect()
}

/// A gauge without a sample while its value is unknown.
#[derive(Clone, Debug)]
pub(super) struct OptionalGauge(GaugeVec);

impl OptionalGauge {
    pub(super) fn set(&self, value: Option<f64>) {
        match value {
            Some(value) => self.0.with_label_values::<&str>(&[]).set(value),
            None => self.0.reset(),
        }
    }
}

/// An unsigned integer as the value of a gauge, rounded to the nearest float above 2^53.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

/// A signed integer as the value of a gauge, as [`float`].
pub(super) fn signed_float(value: i64) -> f64 {
    let magnitude = float(value.unsigned_abs());
    if value < 0 { -magnitude } else { magnitude }
}

pub(super) fn options(name: &'static str, help: &'static str) -> Opts {
    Opts::new(name, help).namespace("walferry")
}

fn buckets_of(name: &'static str, help: &'static str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace("walferry").buckets(buckets.to_vec())
}
