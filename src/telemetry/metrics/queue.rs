//! The queue table: what stands in it, and what became of jobs.

use prometheus::{GaugeVec, IntCounter, IntCounterVec};

use super::registration::{Optional, Registration, real};

/// What one look at the queue found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    pub pending: u64,
    pub processing: u64,
    pub completed: u64,
    pub failed: u64,
    pub stuck: u64,
    /// From commit to end, over all finished jobs that are kept.
    pub mean_processing_seconds: f64,
    /// Age in seconds of the oldest job of each; 0 where there is none.
    pub oldest_pending: f64,
    pub oldest_processing: f64,
    pub oldest_failed: f64,
}

/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct Queue {
    jobs: GaugeVec,
    stuck: Optional,
    oldest: GaugeVec,
    mean: Optional,
    sampled_at: Optional,
    sample_errors: IntCounter,
    settled: IntCounterVec,
    rescued: IntCounterVec,
}

impl Queue {
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let queue = Self {
            jobs: add.optionals("queue_jobs", "Jobs in the queue table.", &["status"]),
            stuck: add.optional("queue_stuck_jobs", "Jobs `processing` for longer than 30 s."),
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

    /// What a look at the queue found at a time in seconds since 1970.
    pub fn set(&self, figures: &Figures, at: f64) {
        let jobs = [
            ("pending", figures.pending),
            ("processing", figures.processing),
            ("completed", figures.completed),
            ("failed", figures.failed),
        ];
        for (status, count) in jobs {
            self.jobs.with_label_values(&[status]).set(real(count));
        }
        let oldest = [
            ("pending", figures.oldest_pending),
            ("processing", figures.oldest_processing),
            ("failed", figures.oldest_failed),
        ];
        for (status, age) in oldest {
            self.oldest.with_label_values(&[status]).set(age);
        }
        self.stuck.set(Some(real(figures.stuck)));
        self.mean.set(Some(figures.mean_processing_seconds));
        self.sampled_at.set(Some(at));
    }

    /// The figures are somebody else's to tell.
    pub fn forget(&self) {
        self.jobs.reset();
        self.oldest.reset();
        for gauge in [&self.stuck, &self.mean, &self.sampled_at] {
            gauge.set(None);
        }
    }

    /// A look failed.
    pub fn sample_failed(&self) {
        self.sample_errors.inc();
    }

    /// Jobs that got a status: `completed`, `failed`, or `pending` for another attempt.
    pub fn settled(&self, completed: u64, failed: u64, again: u64) {
        for (status, count) in [("completed", completed), ("failed", failed), ("pending", again)] {
            self.settled.with_label_values(&[status]).inc_by(count);
        }
    }

    /// Stuck jobs that were made `pending` or `failed`.
    pub fn rescued(&self, pending: u64, failed: u64) {
        self.rescued.with_label_values(&["pending"]).inc_by(pending);
        self.rescued.with_label_values(&["failed"]).inc_by(failed);
    }
}
