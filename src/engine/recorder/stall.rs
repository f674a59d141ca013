//! Whether settlement has stalled while the recorder waits for the feed. Pure; the caller supplies
//! the time.
//!
//! Not here: what follows from a stall (`recording`).

use std::time::Duration;

use tokio::time::Instant;

/// After this time without a settlement the recorder stops waiting for the feed.
pub const STALL_MAX: Duration = Duration::from_secs(10);

/// Since when nothing has settled while the recorder waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct StallWatch {
    waiting_since: Option<Instant>,
    stalled: bool,
}

impl StallWatch {
    /// Whether settlement has stalled, and nothing has settled since.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Notes whether the recorder waits for the feed now. The time counts from when it began to wait.
    pub fn waits(&mut self, waits: bool, now: Instant) {
        self.waiting_since = if waits { self.waiting_since.or(Some(now)) } else { None };
    }

    /// When settlement counts as stalled if nothing settles until then; `None` while the recorder
    /// does not wait, and after a stall.
    #[must_use]
    pub fn limit(&self) -> Option<Instant> {
        self.waiting_since.filter(|_| !self.stalled).map(|since| since + STALL_MAX)
    }

    /// Something has settled: the time counts anew. True if that ends a stall.
    pub fn settled(&mut self, now: Instant) -> bool {
        self.waiting_since = self.waiting_since.and(Some(now));
        std::mem::take(&mut self.stalled)
    }

    /// The feed has moved on: the time counts anew.
    pub fn feed_moved(&mut self) {
        self.waiting_since = None;
    }

    /// The limit has passed.
    pub fn stall(&mut self) {
        self.stalled = true;
    }

    /// The feed has finished the table, which ends a stall.
    pub fn went_live(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settlement_stalls_after_its_limit_and_resumes_with_the_first_one() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut watch = StallWatch::default();
        assert_eq!(watch.limit(), None);
        watch.waits(true, start);
        watch.waits(true, start + second);
        assert_eq!(watch.limit(), Some(start + STALL_MAX), "it has waited since the start");
        assert!(!watch.settled(start + 2 * second));
        assert_eq!(watch.limit(), Some(start + 2 * second + STALL_MAX));
        watch.stall();
        assert!(watch.is_stalled());
        assert_eq!(watch.limit(), None);
        assert!(watch.settled(start + 20 * second));
        assert!(!watch.is_stalled());
        assert_eq!(watch.limit(), Some(start + 20 * second + STALL_MAX));
    }

    #[test]
    fn the_time_counts_only_while_the_recorder_waits() {
        let start = Instant::now();
        let mut watch = StallWatch::default();
        watch.waits(true, start);
        watch.waits(false, start + STALL_MAX / 2);
        assert!(!watch.settled(start + STALL_MAX / 2));
        assert_eq!(watch.limit(), None);
        watch.waits(true, start + STALL_MAX);
        assert_eq!(watch.limit(), Some(start + 2 * STALL_MAX));
    }

    #[test]
    fn the_time_counts_anew_once_the_feed_has_moved_on() {
        let start = Instant::now();
        let mut watch = StallWatch::default();
        watch.waits(true, start);
        watch.feed_moved();
        watch.waits(true, start + STALL_MAX / 2);
        assert_eq!(watch.limit(), Some(start + STALL_MAX / 2 + STALL_MAX));
    }

    #[test]
    fn live_begins_without_a_stall() {
        let mut watch = StallWatch::default();
        watch.waits(true, Instant::now());
        watch.stall();
        watch.went_live();
        assert!(!watch.is_stalled());
        assert_eq!(watch.limit(), None);
    }
}
