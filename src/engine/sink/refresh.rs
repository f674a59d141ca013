//! With `elasticsearch.refresh = adaptive`, decides when indices are refreshed, so that searches find
//! documents just written. Pure.
//!
//! A refresh is a request of its own, not a bulk's `refresh=true`: it takes longer than the bulk,
//! and no verdict shall wait for it. It runs only while the feed has caught up, at most every
//! 50 ms, one at a time, and only for indices with new documents.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Refresh;
use crate::engine::document::id::IndexId;

/// From the start of one refresh to the start of the next.
const INTERVAL: Duration = Duration::from_millis(50);

/// The indices to refresh, and the refresh in flight.
#[derive(Debug)]
pub struct Refresher {
    policy: Refresh,
    stale: BTreeSet<IndexId>,
    started: Option<Instant>,
    in_flight: bool,
}

impl Refresher {
    #[must_use]
    pub fn new(policy: Refresh) -> Self {
        Self { policy, stale: BTreeSet::new(), started: None, in_flight: false }
    }

    /// Records that these indices have documents that searches do not find yet.
    pub fn written(&mut self, indices: impl Iterator<Item = IndexId>) {
        if self.policy == Refresh::Adaptive {
            self.stale.extend(indices);
        }
    }

    /// The indices to refresh now, if any. The caller calls [`Refresher::finished`] at the end.
    pub fn start(&mut self, now: Instant, caught_up: bool) -> Option<Vec<IndexId>> {
        let wanted = caught_up && !self.in_flight && !self.stale.is_empty();
        if !wanted || self.started.is_some_and(|at| now < at + INTERVAL) {
            return None;
        }
        self.started = Some(now);
        self.in_flight = true;
        Some(std::mem::take(&mut self.stale).into_iter().collect())
    }

    /// Ends the refresh in flight.
    pub fn finished(&mut self) {
        self.in_flight = false;
    }

    /// When [`Refresher::start`] returns indices without another event.
    #[must_use]
    pub fn due(&self, caught_up: bool) -> Option<Instant> {
        let wanted = caught_up && !self.in_flight && !self.stale.is_empty();
        self.started.map(|at| at + INTERVAL).filter(|_| wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_is_rare_single_and_never_during_catch_up() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut refresher = Refresher::new(Refresh::Adaptive);
        assert_eq!(refresher.start(now, true), None);
        refresher.written([IndexId(1), IndexId(0), IndexId(1)].into_iter());
        assert_eq!(refresher.start(now, false), None);
        assert_eq!(refresher.start(now, true), Some(vec![IndexId(0), IndexId(1)]));
        refresher.written(std::iter::once(IndexId(2)));
        assert_eq!(refresher.start(now + ms(60), true), None);
        assert_eq!(refresher.due(true), None);
        refresher.finished();
        assert_eq!(refresher.start(now + ms(49), true), None);
        assert_eq!(refresher.due(true), Some(now + ms(50)));
        assert_eq!(refresher.due(false), None);
        assert_eq!(refresher.start(now + ms(50), true), Some(vec![IndexId(2)]));
    }

    #[test]
    fn the_index_may_refresh_on_its_own() {
        let mut refresher = Refresher::new(Refresh::Index);
        refresher.written(std::iter::once(IndexId(0)));
        assert_eq!(refresher.start(Instant::now(), true), None);
    }
}
