//! Single steps of a recorder for tests, without waiting and without storage.

use futures_util::FutureExt;
use tokio::time::Instant;

use super::Recorder;
use super::recording::{BatchRoom, Recording};

impl Recorder<()> {
    pub(crate) fn recording(&self) -> &Recording {
        &self.recording
    }

    /// When settlement counts as stalled.
    pub(crate) fn stall_limit(&self) -> Option<Instant> {
        self.stall.limit()
    }

    /// Room for the next batch, if there is any now.
    pub(crate) fn room(&self) -> Option<BatchRoom> {
        self.recording.room().now_or_never()
    }

    /// Notes the settlements since the last call; false if there were none.
    pub(crate) fn note_settlement(&mut self, now: Instant) -> bool {
        let changed = self.channels.progress.has_changed().unwrap_or(false);
        if changed {
            self.channels.progress.mark_unchanged();
            self.stall.settled(now);
        }
        changed
    }

    /// Receives one chunk of changes; false if there is none now.
    pub(crate) fn receive(&mut self) -> bool {
        let chunk = self.channels.changes.try_recv().ok();
        let received = chunk.is_some();
        self.take_in(chunk.unwrap_or_default());
        received
    }
}
