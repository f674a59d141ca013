//! Where the HTTP server asks the running pipeline for something; outlives every run.
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
    /// Work was left in the table: the feed looks for it.
    pub feed: Arc<Notify>,
    /// The choice of indexing was changed: the supervisor reads it.
    pub control: Arc<Notify>,
    /// A look for stuck jobs is wanted now.
    pub rescue: Arc<Notify>,
    /// The last look.
    pub rescued: watch::Sender<RescuePass>,
}

impl OperatorRequests {
    /// Asks for a look for stuck jobs and waits for its end; `None` where nobody looks in time,
    /// as on a standby.
    pub async fn rescue_now(&self, patience: Duration) -> Option<RescuePass> {
        let mut passes = self.rescued.subscribe();
        self.rescue.notify_one();
        timeout(patience, passes.changed()).await.ok()?.ok()?;
        let pass = passes.borrow().clone();
        Some(pass)
    }
}
