//! Writes the fate of jobs, and says which LSN may be acknowledged.
//!
//! Tickets that have settled since the last look are completed in one transaction together with
//! the position they add up to. Only what has been committed is published.
//!
//! Not here: the statements (`storage::queue::settle`), and the sending of acknowledgements (`engine::wal::stream`).

mod settlement_metrics;
pub mod watermark;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::ack::batch::{Failure, Stub, Ticket};
pub use crate::engine::checkpoint::settlement_metrics::Telling;
use crate::storage::QueueError;
pub use crate::storage::queue::settle::Progress;
use crate::storage::queue::settle::Settler;
use crate::telemetry::trace;
use watermark::Watermark;

/// Tickets completed in one transaction.
const TICKETS_MAX: usize = 64;

/// Runs until the channel of settled tickets closes.
///
/// # Errors
/// [`QueueError`], which ends the run.
pub async fn run(
    mut settler: Settler,
    mut tickets: mpsc::Receiver<Arc<Ticket>>,
    progress: watch::Sender<Progress>,
    mut telling: Telling,
) -> Result<(), QueueError> {
    let mut watermark = Watermark::default();
    let mut batch = Vec::with_capacity(TICKETS_MAX);
    while tickets.recv_many(&mut batch, TICKETS_MAX).await > 0 {
        // Their jobs count as alive until their fate is durable.
        let held: Vec<Arc<Ticket>> = std::mem::take(&mut batch);
        let settled: Vec<(Stub, Vec<Failure>)> =
            held.iter().map(|ticket| (ticket.stub().clone(), ticket.take_failures())).collect();
        for (stub, failures) in &settled {
            for failure in failures.iter().filter(|_| stub.loaded.is_some()) {
                // There is no job that could say so.
                tracing::error!(
                    event = "load_document_refused",
                    error = failure.error,
                    "document of the first load was refused"
                );
            }
            watermark.settle(stub);
        }
        let position = watermark.position();
        let loaded = watermark.take_loaded();
        telling.latencies(&held);
        let began = Instant::now();
        let span = trace::settle(held.iter().map(|ticket| ticket.batch()), position);
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
