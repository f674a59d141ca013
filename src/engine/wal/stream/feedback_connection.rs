//! The connection of the stream together with the feedback on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::engine::wal::connection::ReplicationStream;
use crate::engine::wal::error::ReplicationError;
use crate::engine::wal::feedback::{StatusTimer, StreamProgress};
use crate::engine::wal::stats::StreamStats;
use crate::telemetry::metrics;
use crate::telemetry::metrics::source::ReceivedCounts;

/// The timeout of the server's response to CopyDone.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The connection and its feedback, which continues while the loop waits for something else.
pub(super) struct FeedbackConnection {
    pub(super) stream: ReplicationStream,
    pub(super) progress: StreamProgress,
    pub(super) timer: StatusTimer,
    pub(super) stats: Arc<StreamStats>,
    pub(super) metrics: metrics::SourceMetrics,
    /// Counts that the metrics do not include yet.
    pub(super) received: ReceivedCounts,
}

impl FeedbackConnection {
    /// Sends a standby status update.
    pub(super) async fn send_feedback(&mut self) -> Result<(), ReplicationError> {
        let now = Instant::now();
        let reply_requested = self.timer.sent(now);
        let received = self.progress.received();
        let durable = self.progress.durable();
        self.stats.acknowledged_lsn.store(durable.0, Ordering::Relaxed);
        self.stats.feedbacks.fetch_add(1, Ordering::Relaxed);
        self.received.feedbacks += 1;
        self.received.publish(&self.metrics);
        self.stream.send_status(received, durable, reply_requested).await
    }

    /// Waits for an answer from another session; feedback continues meanwhile.
    pub(super) async fn during<T>(
        &mut self,
        asking: impl Future<Output = T>,
    ) -> Result<T, ReplicationError> {
        let mut asking = std::pin::pin!(asking);
        loop {
            tokio::select! {
                answer = &mut asking => return Ok(answer),
                () = sleep_until(self.timer.due_at()) => self.send_feedback().await?,
            }
        }
    }

    /// Sends the last acknowledgement, then CopyDone. A server that does not respond in time misses
    /// the acknowledgement only, and sends the changes above the previous one again.
    pub(super) async fn close(mut self) {
        self.received.publish(&self.metrics);
        let received = self.progress.received();
        let durable = self.progress.durable();
        let mut stream = self.stream;
        let closing = async {
            stream.send_status(received, durable, false).await?;
            stream.close().await
        };
        match timeout(CLOSE_WITHIN, closing).await {
            Ok(Ok(())) => self.stats.acknowledged_lsn.store(durable.0, Ordering::Relaxed),
            Ok(Err(error)) => debug!(%error, "replication connection did not close in good order"),
            Err(_) => debug!("replication connection did not close in time"),
        }
    }
}
