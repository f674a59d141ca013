//! Metrics of the pipeline as a whole: its source, its progress and its lag.
//!
//! Not here: the computation of the lag (`lag`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::local::LocalHistogram;
use prometheus::{Gauge, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::lag::{self, LagMeter, StageProgress, WalEndSample};
use super::registration::{LATENCIES, OptionalGauge, Registration, float};
use crate::telemetry::mode::{Activity, FeedMode};

/// A stage that a batch passes, apart from the bulk request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The jobs of the batch are written.
    Record,
    /// The documents of the batch are built, rows are read if necessary, and the sink accepts the
    /// documents.
    Render,
    /// The jobs are updated and the position is stored.
    Settle,
}

impl Stage {
    /// The name of the stage's span, and the value of the label `stage`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Render => "render",
            Self::Settle => "settle",
        }
    }
}

/// Metrics of the pipeline. Clones share them.
#[derive(Clone, Debug)]
pub struct PipelineMetrics {
    mode: IntGaugeVec,
    restarts: IntCounterVec,
    progress_at: Gauge,
    lag_seconds: OptionalGauge,
    lag_bytes: OptionalGauge,
    latency: HistogramVec,
    stages: HistogramVec,
    load_rows: IntGaugeVec,
    load_estimated_rows: IntGaugeVec,
    load_finished: IntGaugeVec,
    fanouts: IntGauge,
    fanout_rows: IntCounter,
    meter: Arc<Mutex<LagMeter>>,
}

impl PipelineMetrics {
    /// Registers the metrics of the pipeline.
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let pipeline = Self {
            mode: add.gauges("pipeline_mode", "1 for what feeds the sink now.", &["mode"]),
            restarts: add.counters(
                "pipeline_restarts_total",
                "Runs ended by a fault; each is followed by another.",
                &["reason"],
            ),
            progress_at: add.float_gauge(
                "pipeline_last_progress_timestamp_seconds",
                "When changes were last settled, or all were known to be.",
            ),
            lag_seconds: add.optional(
                "pipeline_lag_seconds",
                "Age of the oldest commit that may not be indexed yet; 0 when caught up.",
            ),
            lag_bytes: add.optional(
                "pipeline_lag_bytes",
                "WAL between the server's end and what is settled, as of the last look; 0 when caught up.",
            ),
            latency: add.histograms(
                "end_to_end_latency_seconds",
                "From a change's commit to Elasticsearch's last answer for its batch.",
                "table",
                LATENCIES,
            ),
            stages: add.histograms(
                "stage_duration_seconds",
                "Time that a batch takes in a stage; Elasticsearch's share is the bulk request's.",
                "stage",
                LATENCIES,
            ),
            load_rows: add.gauges(
                "load_rows",
                "Rows of the first load that are indexed.",
                &["table"],
            ),
            load_estimated_rows: add.gauges(
                "load_estimated_rows",
                "Rows that PostgreSQL's statistics promise to the first load.",
                &["table"],
            ),
            load_finished: add.gauges(
                "load_finished",
                "1 once the first load of the table is done.",
                &["table"],
            ),
            fanouts: add.gauge(
                "fanouts",
                "Fan-outs that go on in the background: their jobs wait for documents to be rewritten.",
            ),
            fanout_rows: add.counter(
                "fanout_rows_total",
                "Rows of which fan-outs in the background have rewritten the documents.",
            ),
            meter: Arc::new(Mutex::new(LagMeter::new(lag::seconds(SystemTime::now())))),
        };
        pipeline.set_mode(Activity::Feeding(FeedMode::Starting));
        pipeline
    }

    /// Creates the series of the stages and of the configured tables at zero.
    pub(super) fn declare(&self, tables: &[String]) {
        for stage in [Stage::Record, Stage::Render, Stage::Settle] {
            drop(self.stages.with_label_values(&[stage.as_str()]));
        }
        drop(self.restarts.with_label_values(&["fault"]));
        for table in tables {
            drop(self.latency.with_label_values(&[table]));
        }
    }

    /// What feeds the sink from now on.
    pub fn set_mode(&self, activity: Activity) {
        for label in Activity::LABELS {
            let value = i64::from(label == activity.label());
            self.mode.with_label_values(&[label]).set(value);
        }
    }

    /// Reports how many fan-outs go on in the background.
    pub fn set_fanouts(&self, open: usize) {
        self.fanouts.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Counts rows of which fan-outs in the background have rewritten the documents.
    pub fn fanout_rows(&self, rows: u64) {
        self.fanout_rows.inc_by(rows);
    }

    /// Counts a run that ended by a fault. `reason` is a constant word.
    pub fn restarted(&self, reason: &'static str) {
        self.restarts.with_label_values(&[reason]).inc();
    }

    /// Reports the end of the server's WAL, and the progress of the stages at that time.
    pub fn wal_end_sampled(&self, sample: WalEndSample, progress: StageProgress) {
        self.meter().wal_end_sampled(sample, progress);
    }

    /// Reports the progress of the stages.
    pub fn progressed(&self, now: SystemTime, progress: StageProgress) {
        self.meter().progressed(lag::seconds(now), progress);
    }

    /// Reports the commit time of the oldest unfinished job, in seconds since 1970, after a start.
    pub fn unfinished_since(&self, at: f64) {
        self.meter().unfinished_since(at);
    }

    /// Reports that another instance does the work. This one has no lag then.
    pub(super) fn stands_by(&self) {
        self.set_mode(Activity::Standby);
        self.set_fanouts(0);
        *self.meter() = LagMeter::new(lag::seconds(SystemTime::now()));
    }

    /// The current lag in seconds; `None` if it is unknown.
    #[must_use]
    pub fn lag_seconds(&self) -> Option<f64> {
        let lag = self.meter().lag(lag::seconds(SystemTime::now()));
        lag.map(|lag| lag.seconds)
    }

    /// Records the time that a batch took in a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages.with_label_values(&[stage.as_str()]).observe(took.as_secs_f64());
    }

    /// Local histograms of the latencies of `tables`, for one task.
    #[must_use]
    pub fn latencies(&self, tables: &[String]) -> Latencies {
        let of = |table: &String| self.latency.with_label_values(&[table]).local();
        Latencies(tables.iter().map(of).collect())
    }

    /// Sets the progress of the first load of a table.
    pub fn set_load(&self, table: &str, rows: u64, finished: bool) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.load_rows.with_label_values(&[table]).set(rows);
        self.load_finished.with_label_values(&[table]).set(i64::from(finished));
    }

    /// Sets the estimated number of rows of a table's first load.
    pub fn set_load_estimate(&self, table: &str, rows: i64) {
        self.load_estimated_rows.with_label_values(&[table]).set(rows.max(0));
    }

    /// Updates the gauges that depend on the current time.
    pub(super) fn refresh(&self, now: f64) {
        let meter = self.meter();
        let lag = meter.lag(now);
        self.lag_seconds.set(lag.map(|lag| lag.seconds));
        self.lag_bytes.set(lag.map(|lag| float(lag.bytes)));
        self.progress_at.set(meter.progress_at());
    }

    fn meter(&self) -> MutexGuard<'_, LagMeter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Local histograms of latencies. Observations become visible when they are flushed.
#[derive(Debug)]
pub struct Latencies(Vec<LocalHistogram>);

impl Latencies {
    /// Records a latency of `changes` changes. `table` is the table's index in the list of tables.
    pub fn observe(&self, table: usize, seconds: f64, changes: u32) {
        let Some(histogram) = self.0.get(table) else { return };
        for _ in 0..changes {
            histogram.observe(seconds);
        }
    }

    /// Publishes the observations.
    pub fn flush(&self) {
        self.0.iter().for_each(LocalHistogram::flush);
    }
}
