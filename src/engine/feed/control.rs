//! The feed's side of the control plane: what it reports, what it obeys, and what wakes it.
//!
//! Not here: who decides (`supervisor`), and who goes live (`recorder`).

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Mode;
use crate::engine::recorder::{GoneLive, LiveRequest};

/// The feed's ends of the channels of the control plane.
pub struct FeedControl {
    mode: watch::Sender<Mode>,
    caught_up: watch::Sender<bool>,
    /// An operator has halted indexing: no batch may begin.
    halted: watch::Receiver<bool>,
    requests: mpsc::Sender<LiveRequest>,
    /// Jobs were left in the table.
    wake: Arc<Notify>,
    /// No batch may begin; the batch at hand is finished.
    stop: CancellationToken,
}

impl FeedControl {
    #[must_use]
    pub fn new(
        mode: watch::Sender<Mode>,
        caught_up: watch::Sender<bool>,
        halted: watch::Receiver<bool>,
        requests: mpsc::Sender<LiveRequest>,
        wake: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self { mode, caught_up, halted, requests, wake, stop }
    }

    /// Reports the source that the feed works on.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Reports whether everything recorded has been rendered.
    pub fn set_caught_up(&self, caught_up: bool) {
        self.caught_up.send_if_modified(|known| std::mem::replace(known, caught_up) != caught_up);
    }

    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether a batch may begin now.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        !self.is_stopped() && !*self.halted.borrow()
    }

    /// Waits while indexing is halted; false once the run stops.
    pub async fn wait_to_begin(&mut self) -> bool {
        let resumed = self.halted.wait_for(|halted| !*halted);
        tokio::select! {
            () = self.stop.cancelled() => false,
            resumed = resumed => resumed.is_ok(),
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

    /// Wakes the feed itself: jobs remain that are due.
    pub fn wake_again(&self) {
        self.wake.notify_one();
    }
}
