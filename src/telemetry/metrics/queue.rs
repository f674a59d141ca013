//! Metrics of the queue table: its jobs by status, and the results of jobs.
//!
//! Not here: reading the table (`admin::figures`).

use std::sync::{Arc, OnceLock};

use prometheus::{GaugeVec, IntCounter, IntCounterVec};

use super::registration::{OptionalGauge, Registration, float};

/// Statistics of the queue table at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueStatistics {
    /// The number of jobs with the status `pending`.
    pub pending: u64,
    /// The number of jobs with the status `processing`.
    pub processing: u64,
    /// The number of jobs with the status `completed`.
    pub completed: u64,
    /// The number of jobs with the status `failed`.
    pub failed: u64,
    /// The number of jobs that have been `processing` for longer than 30 s.
    pub stuck: u64,
    /// The mean time from commit to end of the finished jobs in the table.
    pub mean_processing_seconds: f64,
    /// The age of the oldest `pending` job in seconds; 0 without one.
    pub oldest_pending: f64,
    /// The age of the oldest `processing` job in seconds; 0 without one.
    pub oldest_processing: f64,
    /// The age of the oldest `failed` job in seconds; 0 without one.
    pub oldest_failed: f64,
}

/// Metrics of the queue table. Clones share them.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    jobs: GaugeVec,
    stuck: OptionalGauge,
    /// The configured indices, which have a sample even if no job waits for them.
    indices: Arc<OnceLock<Vec<String>>>,
    parked: GaugeVec,
    oldest: GaugeVec,
    mean: OptionalGauge,
    sampled_at: OptionalGauge,
    sample_errors: IntCounter,
    settled: IntCounterVec,
    rescued: IntCounterVec,
}

impl QueueMetrics {
    /// Registers the metrics of the queue table.
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let queue = Self {
            jobs: add.optionals("queue_jobs", "Jobs in the queue table.", &["status"]),
            stuck: add.optional("queue_stuck_jobs", "Jobs `processing` for longer than 30 s."),
            indices: Arc::default(),
            parked: add.optionals(
                "queue_parked_jobs",
                "Pending jobs that wait for an index which takes no documents; 10000 at most are counted.",
                &["index"],
            ),
            oldest: add.optionals(
                "queue_oldest_job_age_seconds",
                "Age of the oldest job by its commit; 0 without one.",
                &["status"],
            ),
            mean: add.optional(
                "queue_mean_processing_seconds",
                "Mean time from commit to end of the finished jobs that are kept.",
            ),
            sampled_at: add.optional(
                "queue_sample_timestamp_seconds",
                "When the queue's figures were last read from the database.",
            ),
            sample_errors: add.counter(
                "queue_sample_errors_total",
                "Readings of the queue's figures that failed.",
            ),
            settled: add.counters(
                "queue_jobs_settled_total",
                "Jobs by the status that the end of their work gave them.",
                &["status"],
            ),
            rescued: add.counters(
                "queue_jobs_rescued_total",
                "Stuck jobs by the status that the rescue gave them.",
                &["status"],
            ),
        };
        for status in ["completed", "failed", "pending"] {
            drop(queue.settled.with_label_values(&[status]));
        }
        for status in ["failed", "pending"] {
            drop(queue.rescued.with_label_values(&[status]));
        }
        queue
    }

    /// Sets the statistics of the queue table, as of `at` in seconds since 1970.
    pub fn set(&self, statistics: &QueueStatistics, at: f64) {
        let jobs = [
            ("pending", statistics.pending),
            ("processing", statistics.processing),
            ("completed", statistics.completed),
            ("failed", statistics.failed),
        ];
        for (status, count) in jobs {
            self.jobs.with_label_values(&[status]).set(float(count));
        }
        let oldest = [
            ("pending", statistics.oldest_pending),
            ("processing", statistics.oldest_processing),
            ("failed", statistics.oldest_failed),
        ];
        for (status, age) in oldest {
            self.oldest.with_label_values(&[status]).set(age);
        }
        self.stuck.set(Some(float(statistics.stuck)));
        self.mean.set(Some(statistics.mean_processing_seconds));
        self.sampled_at.set(Some(at));
    }

    /// Names the configured indices.
    pub(super) fn declare(&self, indices: &[String]) {
        self.indices.get_or_init(|| indices.to_vec());
    }

    /// Sets the jobs that wait for each index; 0 for the configured ones that are not named.
    pub fn set_parked<'a>(&self, jobs: impl Iterator<Item = (&'a str, u64)>) {
        self.parked.reset();
        for index in self.indices.get().into_iter().flatten() {
            self.parked.with_label_values(&[index]).set(0.0);
        }
        for (index, count) in jobs {
            self.parked.with_label_values(&[index]).set(float(count));
        }
    }

    /// Removes the statistics, because another instance reports them.
    pub fn forget(&self) {
        self.jobs.reset();
        self.parked.reset();
        self.oldest.reset();
        for gauge in [&self.stuck, &self.mean, &self.sampled_at] {
            gauge.set(None);
        }
    }

    /// Counts a failed read of the statistics.
    pub fn sample_failed(&self) {
        self.sample_errors.inc();
    }

    /// Counts settled jobs by their new status; `again` have the status `pending` for another
    /// attempt.
    pub fn settled(&self, completed: u64, failed: u64, again: u64) {
        for (status, count) in [("completed", completed), ("failed", failed), ("pending", again)] {
            self.settled.with_label_values(&[status]).inc_by(count);
        }
    }

    /// Counts stuck jobs that the rescue made `pending` or `failed`.
    pub fn rescued(&self, pending: u64, failed: u64) {
        self.rescued.with_label_values(&["pending"]).inc_by(pending);
        self.rescued.with_label_values(&["failed"]).inc_by(failed);
    }
}
