//! Waits until settlement stalls, or resumes.
//!
//! Not here: when it counts as stalled (`stall`), and what follows from it (`recording`).

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::stall::StallWatch;
use crate::engine::control::SettlementProgress;

/// What the recorder learns from the settlements.
pub(super) enum SettlementEvent {
    /// Nothing has settled for [`STALL_MAX`](super::stall::STALL_MAX).
    Stalled,
    /// Something has settled after a stall.
    Resumed,
}

/// Returns once nothing has settled until the limit; after a stall, once something settles.
pub(super) async fn settlement(
    progress: &mut watch::Receiver<SettlementProgress>,
    stall: &mut StallWatch,
) -> SettlementEvent {
    loop {
        let changed = match stall.limit() {
            Some(limit) => match timeout_at(limit, progress.changed()).await {
                Err(_) => return SettlementEvent::Stalled,
                Ok(changed) => changed,
            },
            None => progress.changed().await,
        };
        match changed {
            // The checkpoint has ended, so the run ends.
            Err(_) => std::future::pending().await,
            Ok(()) if stall.settled(Instant::now()) => return SettlementEvent::Resumed,
            Ok(()) => {}
        }
    }
}
