//! Requests of operators to the running pipeline. They outlive every run.
//!
//! Not here: what is done to the queue's rows (`admin::jobs::operations`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::storage::queue::rescue::Rescued;

/// What one pass of the rescue did. The last is kept in [`OperatorRequests`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RescuePass {
    pub rescued: Rescued,
    /// When it ended; `None` before the first.
    pub at: Option<SystemTime>,
}

/// Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct OperatorRequests {
    /// Jobs were left in the table: wakes the feed.
    pub feed: Arc<Notify>,
    /// The choice of indexing was changed: wakes the supervisor.
    pub control: Arc<Notify>,
    /// Stuck jobs are to be rescued now: wakes the rescue.
    pub rescue: Arc<Notify>,
    /// The last pass of the rescue.
    pub rescued: watch::Sender<RescuePass>,
}

impl OperatorRequests {
    /// Requests a pass of the rescue and waits for its end. `None` if there is none in time, as on a
    /// standby.
    pub async fn rescue_now(&self, patience: Duration) -> Option<RescuePass> {
        let mut passes = self.rescued.subscribe();
        self.rescue.notify_one();
        timeout(patience, passes.changed()).await.ok()?.ok()?;
        let pass = passes.borrow().clone();
        Some(pass)
    }
}
