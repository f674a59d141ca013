//! Metrics of the waits of the pipeline.
//!
//! Not here: what is waited for, and the bounds (`telemetry::waits`).

use prometheus::GaugeVec;

use super::registration::Registration;
use crate::telemetry::waits::{WaitName, Waits};

/// A series for each wait; zero while nothing is awaited.
#[derive(Clone, Debug)]
pub(super) struct WaitMetrics {
    seconds: GaugeVec,
}

impl WaitMetrics {
    /// Registers the metrics, and sets the bounds.
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let seconds = add.optionals(
            "wait_seconds",
            "How long the pipeline has waited for this; 0 while it does not.",
            &["wait"],
        );
        let bounds = add.optionals(
            "wait_bound_seconds",
            "A longer wait is reported: log event and health code wait_overdue.",
            &["wait"],
        );
        for wait in WaitName::ALL.map(WaitName::description) {
            bounds.with_label_values(&[wait.name]).set(wait.bound.as_secs_f64());
        }
        let metrics = Self { seconds };
        metrics.refresh(&Waits::default());
        metrics
    }

    /// Sets the durations of now.
    pub(super) fn refresh(&self, waits: &Waits) {
        let waiting = waits.now();
        for name in WaitName::ALL {
            let wait = waiting.iter().find(|wait| wait.name == name);
            let seconds = wait.map_or(0.0, |wait| wait.lasted.as_secs_f64());
            self.seconds.with_label_values(&[name.description().name]).set(seconds);
        }
    }
}
