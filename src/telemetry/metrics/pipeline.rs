//! The pipeline as a whole: what feeds it, whether it moves, how far it is behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::local::LocalHistogram;
use prometheus::{Gauge, HistogramVec, IntCounterVec, IntGaugeVec};

use super::lag::{self, Look, Meter, Seen};
use super::registration::{LATENCIES, Optional, Registration, real};
use crate::telemetry::mode::{Activity, FeedMode};

/// What takes a batch's time, beside Elasticsearch's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Writing the jobs of a batch.
    Record,
    /// Making documents of a batch, reading rows included, until the sink has taken them.
    Render,
    /// Marking jobs and storing the position.
    Settle,
}

impl Stage {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Render => "render",
            Self::Settle => "settle",
        }
    }
}

/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    mode: IntGaugeVec,
    restarts: IntCounterVec,
    progress_at: Gauge,
    lag_seconds: Optional,
    lag_bytes: Optional,
    latency: HistogramVec,
    stages: HistogramVec,
    load_rows: IntGaugeVec,
    load_estimated_rows: IntGaugeVec,
    load_finished: IntGaugeVec,
    meter: Arc<Mutex<Meter>>,
}

impl Pipeline {
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let pipeline = Self {
            mode: add.gauges("pipeline_mode", "1 for what feeds the sink now.", &["mode"]),
            restarts: add.counters(
                "pipeline_restarts_total",
                "Runs ended by a fault; each is followed by another.",
                &["reason"],
            ),
            progress_at: add.real(
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
            meter: Arc::new(Mutex::new(Meter::new(lag::seconds(SystemTime::now())))),
        };
        pipeline.set_mode(Activity::Feeding(FeedMode::Starting));
        pipeline
    }

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

    /// A run ended by a fault. `reason` is a word of this program.
    pub fn restarted(&self, reason: &'static str) {
        self.restarts.with_label_values(&[reason]).inc();
    }

    /// The server's end of the WAL, and how far everything had come just then.
    pub fn look(&self, look: Look, seen: Seen) {
        self.meter().look(look, seen);
    }

    /// How far everything has come since.
    pub fn see(&self, now: SystemTime, seen: Seen) {
        self.meter().see(lag::seconds(now), seen);
    }

    /// The oldest unfinished job's commit, found after a start.
    pub fn unfinished_since(&self, at: f64) {
        self.meter().unfinished_since(at);
    }

    /// Another instance does the work: this one has no lag of its own.
    pub(super) fn stands_by(&self) {
        self.set_mode(Activity::Standby);
        *self.meter() = Meter::new(lag::seconds(SystemTime::now()));
    }

    /// How far behind we are now, in seconds.
    #[must_use]
    pub fn lag_seconds(&self) -> Option<f64> {
        let lag = self.meter().lag(lag::seconds(SystemTime::now()));
        lag.map(|lag| lag.seconds)
    }

    /// A batch has passed a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages.with_label_values(&[stage.as_str()]).observe(took.as_secs_f64());
    }

    /// Where one task observes latencies, by the tables' places in the definition.
    #[must_use]
    pub fn latencies(&self, tables: &[String]) -> Latencies {
        let of = |table: &String| self.latency.with_label_values(&[table]).local();
        Latencies(tables.iter().map(of).collect())
    }

    /// How far the first load of a table has come.
    pub fn set_load(&self, table: &str, rows: u64, finished: bool) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.load_rows.with_label_values(&[table]).set(rows);
        self.load_finished.with_label_values(&[table]).set(i64::from(finished));
    }

    /// What the first load of a table has to expect.
    pub fn set_load_estimate(&self, table: &str, rows: i64) {
        self.load_estimated_rows.with_label_values(&[table]).set(rows.max(0));
    }

    pub(super) fn refresh(&self, now: f64) {
        let meter = self.meter();
        let lag = meter.lag(now);
        self.lag_seconds.set(lag.map(|lag| lag.seconds));
        self.lag_bytes.set(lag.map(|lag| real(lag.bytes)));
        self.progress_at.set(meter.progress_at());
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts latencies in memory of its own until they are flushed.
#[derive(Debug)]
pub struct Latencies(Vec<LocalHistogram>);

impl Latencies {
    /// So many changes of the table at this place took so long.
    pub fn observe(&self, table: usize, seconds: f64, changes: u32) {
        let Some(histogram) = self.0.get(table) else { return };
        for _ in 0..changes {
            histogram.observe(seconds);
        }
    }

    /// Shows what was observed.
    pub fn flush(&self) {
        self.0.iter().for_each(LocalHistogram::flush);
    }
}
