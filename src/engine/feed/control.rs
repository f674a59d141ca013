//! The feed's side of the control plane: what it reports, what it obeys, and what wakes it.
//!
//! Not here: the decision (`engine::control`), and going live (`recorder`).

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::engine::control::{ClosedIndices, Control, IndexingReport};
use crate::engine::recorder::{GoneLive, LiveRequest};
use crate::telemetry::mode::FeedMode;

/// The feed's ends of the channels of the control plane.
pub struct FeedControl {
    report: watch::Sender<IndexingReport>,
    control: watch::Receiver<Control>,
    requests: mpsc::Sender<LiveRequest>,
    /// Notified when other tasks made jobs `pending`.
    wake: Arc<Notify>,
    /// The indices that jobs stay parked for.
    closed: watch::Receiver<ClosedIndices>,
    /// No batch may begin; the batch at hand is finished.
    stop: CancellationToken,
}

impl FeedControl {
    /// The ends of the channels that the run has made.
    #[must_use]
    pub fn new(
        report: watch::Sender<IndexingReport>,
        control: watch::Receiver<Control>,
        requests: mpsc::Sender<LiveRequest>,
        wake: Arc<Notify>,
        closed: watch::Receiver<ClosedIndices>,
        stop: CancellationToken,
    ) -> Self {
        Self { report, control, requests, wake, closed, stop }
    }

    /// Reports the source that the feed works on.
    pub fn set_mode(&self, mode: FeedMode) {
        self.report.send_modify(|report| report.mode = mode);
    }

    /// Reports whether everything recorded has been rendered.
    pub fn set_caught_up(&self, caught_up: bool) {
        self.report.send_if_modified(|report| {
            std::mem::replace(&mut report.caught_up, caught_up) != caught_up
        });
    }

    /// Reports whether no fan-out goes on in the background.
    pub fn set_fanouts_finished(&self, finished: bool) {
        self.report.send_if_modified(|report| {
            std::mem::replace(&mut report.fanouts_finished, finished) != finished
        });
    }

    /// Whether the run stops.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether a batch may begin now.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        !self.is_stopped() && !self.control.borrow().halted
    }

    /// Waits while indexing is halted; false once the run stops.
    pub async fn wait_to_begin(&mut self) -> bool {
        let resumed = self.control.wait_for(|control| !control.halted);
        tokio::select! {
            () = self.stop.cancelled() => false,
            resumed = resumed => resumed.is_ok(),
        }
    }

    /// Returns when the run stops, or the supervisor has decided anew.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = self.control.changed() => {}
        }
    }

    /// Asks the recorder to go live. `None` if the recorder has ended.
    pub async fn request_live(&self) -> Option<oneshot::Receiver<GoneLive>> {
        let (request, answer) = oneshot::channel();
        self.requests.send(request).await.ok()?;
        Some(answer)
    }

    /// Notified when jobs were left in the table.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Whether the index of this alias takes no documents.
    #[must_use]
    pub fn is_closed(&self, index: &str) -> bool {
        self.closed.borrow().contains(index)
    }

    /// Follows which indices take no documents.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<ClosedIndices> {
        self.closed.clone()
    }

    /// Wakes the feed itself: jobs remain that are due.
    pub fn wake_again(&self) {
        self.wake.notify_one();
    }
}
