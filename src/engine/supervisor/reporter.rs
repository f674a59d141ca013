//! Reports the state of the run to the API and to the metrics.
//!
//! Not here: what is counted by the stages themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::sink_watch::SinkWatch;
use super::slot_watch::SlotSample;
use crate::change::Lsn;
use crate::engine::sink::state::SinkState;
use crate::engine::wal::StreamStats;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::lag::{StageProgress, WalEndSample, seconds};
use crate::telemetry::mode::{Activity, FeedMode};
use crate::telemetry::readiness::{Component, ReadinessReporter};
use crate::telemetry::waits::Waits;

/// Where the supervisor reports to, and the figures of the stages that it reports.
pub struct Reporter {
    metrics: Metrics,
    status: ReadinessReporter,
    stream: Arc<StreamStats>,
    sink: Arc<SinkState>,
}

impl Reporter {
    /// Reports the figures of this stream and this sink.
    #[must_use]
    pub fn new(
        metrics: Metrics,
        status: ReadinessReporter,
        stream: Arc<StreamStats>,
        sink: Arc<SinkState>,
    ) -> Self {
        Self { metrics, status, stream, sink }
    }

    /// What the supervisor waits for.
    pub(super) fn waits(&self) -> &Waits {
        &self.metrics.waits
    }

    /// The source that the feed works on.
    pub(super) fn mode(&self, mode: FeedMode, halted: bool) {
        if halted {
            self.metrics.pipeline.set_mode(Activity::Stopped);
            let message = "indexing was stopped by an operator; POST …/queue/start resumes it";
            self.status.fault(Component::Mode, message);
        } else {
            self.metrics.pipeline.set_mode(Activity::Feeding(mode));
            self.status.ok(Component::Mode, mode.as_str());
        }
    }

    /// Whether the sink takes documents. Until it is prepared, the preparation reports it.
    pub(super) fn sink(&self, mode: FeedMode, sink: &SinkWatch) {
        if let Some(reason) = sink.service_fault() {
            self.status.fault(Component::Elasticsearch, reason);
        } else if matches!(mode, FeedMode::Load | FeedMode::Table | FeedMode::Live) {
            self.status.ok(Component::Elasticsearch, "answers");
            match sink.index_fault() {
                None => self.status.ok(Component::Indices, "ready"),
                Some(reason) => self.status.fault(Component::Indices, reason),
            }
        }
    }

    /// How far the stages have come.
    pub(super) fn progress(&self, settled: Lsn) {
        self.metrics.pipeline.progressed(SystemTime::now(), self.seen(settled));
        self.metrics.sink.set_load(self.sink.in_flight(), self.sink.waiting());
    }

    /// A sample of the server and the slot.
    pub(super) fn slot(&self, sample: &SlotSample, settled: Lsn) {
        match sample.wal_end {
            Some(wal_end) => {
                let sample = WalEndSample { at: seconds(sample.at), wal_end };
                self.metrics.pipeline.wal_end_sampled(sample, self.seen(settled));
            }
            None => self.refused(),
        }
        match &sample.slot {
            Some(figures) => self.metrics.slot.set(figures),
            None => self.refused(),
        }
    }

    /// Bytes of WAL after the position that the stream has confirmed.
    pub(super) fn unconfirmed_bytes(&self, sample: &SlotSample, settled: Lsn) -> u64 {
        let acknowledged = self.stream.acknowledged_lsn.load(Ordering::Relaxed);
        // Before the first feedback, what is settled is what will be confirmed.
        self.wal_end(sample).saturating_sub(acknowledged.max(settled.0))
    }

    /// Bytes of WAL after the settled position.
    pub(super) fn unsettled_bytes(&self, sample: &SlotSample, settled: Lsn) -> u64 {
        self.wal_end(sample).saturating_sub(settled.0)
    }

    fn wal_end(&self, sample: &SlotSample) -> u64 {
        let received = self.stream.received_lsn.load(Ordering::Acquire);
        sample.wal_end.unwrap_or_default().max(received)
    }

    fn seen(&self, settled: Lsn) -> StageProgress {
        // In this order: what was committed below `received` is in `committed`.
        let received = self.stream.received_lsn.load(Ordering::Acquire);
        let committed = self.stream.committed_lsn.load(Ordering::Acquire);
        StageProgress { received, committed, settled: settled.0 }
    }

    fn refused(&self) {
        self.metrics.slot.inspect_failed();
        self.metrics.slot.forget();
    }
}
