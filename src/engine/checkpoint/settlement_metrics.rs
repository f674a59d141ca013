//! Metrics of the checkpoint, counted once a settlement.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ack::batch::{BatchDescriptor, ChunkPurpose, LoadedChunk, PendingBatch, Unfinished};
use crate::storage::queue::settle::SettleCounts;
use crate::telemetry::metrics::pipeline::Latencies;
use crate::telemetry::metrics::{Metrics, Stage};
use crate::telemetry::throttle::LogThrottle;
use crate::telemetry::waits::Waits;

/// Counts settlements, and how long jobs took to be indexed.
#[derive(Debug)]
pub struct SettlementMetrics {
    metrics: Metrics,
    latencies: Latencies,
    failures: LogThrottle,
}

impl SettlementMetrics {
    /// `tables` are the labels of the definition's tables, in its order.
    #[must_use]
    pub fn new(metrics: &Metrics, tables: &[String]) -> Self {
        Self {
            metrics: metrics.clone(),
            latencies: metrics.pipeline.latencies(tables),
            failures: LogThrottle::default(),
        }
    }

    /// What the checkpoint waits for.
    pub(super) fn waits(&self) -> &Waits {
        &self.metrics.waits
    }

    /// Before the settlement: Elasticsearch has answered, which is what is measured.
    pub(super) fn latencies(&self, pending_batches: &[Arc<PendingBatch>]) {
        for pending in pending_batches {
            for (committed, seconds) in pending.latencies() {
                let table = usize::from(committed.table.0);
                self.latencies.observe(table, seconds, committed.changes);
            }
        }
        self.latencies.flush();
    }

    pub(super) fn settled(&mut self, counts: SettleCounts, loaded: &[LoadedChunk], took: Duration) {
        let Metrics { pipeline, queue, .. } = &self.metrics;
        pipeline.stage(Stage::Settle, took);
        queue.settled(counts.completed, counts.failed, counts.retried);
        if counts.failed > 0
            && let Some(held_back) = self.failures.admit(Instant::now(), "failed")
        {
            tracing::warn!(
                event = "jobs_failed",
                failed = counts.failed,
                held_back,
                "documents were refused for good; `walferry jobs --status failed` has the reasons"
            );
        }
        for chunk in loaded.iter().filter(|chunk| chunk.purpose == ChunkPurpose::Load) {
            let table = chunk.table.strip_prefix("public.").unwrap_or(&chunk.table);
            pipeline.set_load(table, chunk.row_count, chunk.last_key.is_none());
        }
    }

    /// Counts the rows of chunks of fan-outs.
    pub(super) fn fanouts(&self, settled: &[(BatchDescriptor, Unfinished)]) {
        let chunks = settled.iter().filter_map(|(descriptor, _)| descriptor.fanouts.chunk.as_ref());
        let rows = chunks.map(|chunk| chunk.row_count).sum();
        self.metrics.pipeline.fanout_rows(rows);
    }
}
