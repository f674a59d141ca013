//! Puts metrics into the registry under the common prefix.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

/// Seconds, from 5 ms to 10 min.
pub(super) const LATENCIES: &[f64] =
    &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Things in a batch.
pub(super) const COUNTS: &[f64] =
    &[1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

/// Bytes of a request, from 1 KiB to 64 MiB.
pub(super) const SIZES: &[f64] =
    &[1024.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// A metric as it is declared, with or without samples.
#[derive(Clone, Debug)]
pub struct MetricDescription {
    /// With the prefix.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    pub labels: Vec<String>,
    pub help: String,
}

pub(super) struct Registration<'a> {
    registry: &'a Registry,
    made: RefCell<Vec<MetricDescription>>,
}

impl<'a> Registration<'a> {
    pub(super) const fn new(registry: &'a Registry) -> Self {
        Self { registry, made: RefCell::new(Vec::new()) }
    }

    /// Every metric that was registered, in the order of registration.
    pub(super) fn into_descriptions(self) -> Vec<MetricDescription> {
        self.made.into_inner()
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

    pub(super) fn real(&self, name: &'static str, help: &'static str) -> Gauge {
        self.add(Gauge::with_opts(options(name, help)))
    }

    /// A gauge that may have nothing to say.
    pub(super) fn optional(&self, name: &'static str, help: &'static str) -> Optional {
        Optional(self.add(GaugeVec::new(options(name, help), &[])))
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

    pub(super) fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("names and labels in these files are valid");
        let registered = self.registry.register(Box::new(collector.clone()));
        registered.expect("names in these files differ");
        self.made.borrow_mut().extend(descriptions(&collector));
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

/// A gauge without a sample while its value is not known.
#[derive(Clone, Debug)]
pub(super) struct Optional(GaugeVec);

impl Optional {
    pub(super) fn set(&self, value: Option<f64>) {
        match value {
            Some(value) => self.0.with_label_values::<&str>(&[]).set(value),
            None => self.0.reset(),
        }
    }
}

/// The whole value of a gauge; beyond 2^53 to the nearest that a float has.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
pub(super) fn real(value: u64) -> f64 {
    value as f64
}

/// The same of what may be below zero.
pub(super) fn signed(value: i64) -> f64 {
    let size = real(value.unsigned_abs());
    if value < 0 { -size } else { size }
}

pub(super) fn options(name: &'static str, help: &'static str) -> Opts {
    Opts::new(name, help).namespace("walferry")
}

fn buckets_of(name: &'static str, help: &'static str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace("walferry").buckets(buckets.to_vec())
}
