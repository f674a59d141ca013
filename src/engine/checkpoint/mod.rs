//! Writes the fate of jobs, and says which LSN may be acknowledged.
//!
//! Batches that have settled since the last look are completed in one transaction together with
//! the position they add up to. Only what has been committed is published.
//!
//! Not here: the statements (`storage::queue::settle`), and the sending of acknowledgements (`engine::wal::stream`).

mod settlement_metrics;
pub mod watermark;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::ack::batch::{BatchDescriptor, Failure, PendingBatch};
pub use crate::engine::checkpoint::settlement_metrics::SettlementMetrics;
use crate::storage::QueueError;
pub use crate::storage::queue::settle::Progress;
use crate::storage::queue::settle::Settler;
use crate::telemetry::trace;
use watermark::Watermark;

/// Batches completed in one transaction.
const BATCHES_MAX: usize = 64;

/// Runs until the channel of settled batches closes.
///
/// # Errors
/// [`QueueError`], which ends the run.
pub async fn run(
    mut settler: Settler,
    mut pending_batches: mpsc::Receiver<Arc<PendingBatch>>,
    progress: watch::Sender<Progress>,
    mut telling: SettlementMetrics,
) -> Result<(), QueueError> {
    let mut watermark = Watermark::default();
    let mut batch = Vec::with_capacity(BATCHES_MAX);
    while pending_batches.recv_many(&mut batch, BATCHES_MAX).await > 0 {
        // Their jobs count as alive until their fate is durable.
        let held: Vec<Arc<PendingBatch>> = std::mem::take(&mut batch);
        let settled: Vec<(BatchDescriptor, Vec<Failure>)> = held
            .iter()
            .map(|pending| (pending.descriptor().clone(), pending.take_failures()))
            .collect();
        for (descriptor, failures) in &settled {
            for failure in failures.iter().filter(|_| descriptor.loaded.is_some()) {
                // There is no job that could say so.
                tracing::error!(
                    event = "load_document_refused",
                    error = failure.error,
                    "document of the first load was refused"
                );
            }
            watermark.settle(descriptor);
        }
        let position = watermark.position();
        let loaded = watermark.take_loaded();
        telling.latencies(&held);
        let began = Instant::now();
        let span = trace::settle(held.iter().map(|pending| pending.batch()), position);
        let counts = settler.settle(&settled, position, &loaded).await?;
        trace::settled(&span, counts.completed, counts.failed);
        drop(span);
        telling.settled(counts, &loaded, began.elapsed());
        drop(held);
        progress.send_modify(|known| {
            known.settled = known.settled.max(position.unwrap_or_default());
            known.completed += counts.completed;
            known.failed += counts.failed;
        });
    }
    Ok(())
}
