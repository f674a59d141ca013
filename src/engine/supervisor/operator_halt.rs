//! Whether an operator has stopped indexing, here or at another instance.
//!
//! Not here: the choice as stored (`storage::control`), and who may choose (`api`).

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::Client;

use crate::storage::QueueError;
use crate::storage::control;

/// The choice as it was read last.
pub struct OperatorHalt {
    session: Arc<Client>,
    slot: String,
    /// The choice was changed at this instance.
    changed: Arc<Notify>,
    halted: bool,
}

impl OperatorHalt {
    /// `halted` is the choice at the start of the run.
    #[must_use]
    pub fn new(session: Arc<Client>, slot: String, changed: Arc<Notify>, halted: bool) -> Self {
        Self { session, slot, changed, halted }
    }

    /// Whether indexing is stopped.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    /// Returns when the choice was changed at this instance.
    pub async fn may_have_changed(&self) {
        self.changed.notified().await;
    }

    /// Reads the choice.
    ///
    /// # Errors
    /// [`QueueError`].
    pub async fn read(&mut self) -> Result<(), QueueError> {
        let halted = !control::indexing(&self.session, &self.slot).await?;
        if std::mem::replace(&mut self.halted, halted) != halted {
            let word = if halted { "stopped" } else { "started" };
            tracing::info!(event = "indexing_chosen", "indexing was {word} by an operator");
        }
        Ok(())
    }
}
