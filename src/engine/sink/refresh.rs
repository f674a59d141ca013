//! When documents just written are made searchable.
//!
//! A request of its own rather than a bulk's `refresh=true`, so that no verdict waits for it: the
//! refresh takes longer than the bulk. Only while caught up, at most every 50 ms, one at a time,
//! and only indices written to. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Refresh;
use crate::engine::document::id::IndexId;

/// From the start of one refresh to the start of the next.
const INTERVAL: Duration = Duration::from_millis(50);

/// See the module's documentation.
#[derive(Debug)]
pub struct Refresher {
    policy: Refresh,
    stale: BTreeSet<IndexId>,
    started: Option<Instant>,
    under_way: bool,
}

impl Refresher {
    #[must_use]
    pub fn new(policy: Refresh) -> Self {
        Self { policy, stale: BTreeSet::new(), started: None, under_way: false }
    }

    /// These indices have documents that no search sees yet.
    pub fn written(&mut self, indices: impl Iterator<Item = IndexId>) {
        if self.policy == Refresh::Adaptive {
            self.stale.extend(indices);
        }
    }

    /// The indices to refresh now, if any; then [`Refresher::finished`] is owed.
    pub fn start(&mut self, now: Instant, caught_up: bool) -> Option<Vec<IndexId>> {
        let wanted = caught_up && !self.under_way && !self.stale.is_empty();
        if !wanted || self.started.is_some_and(|at| now < at + INTERVAL) {
            return None;
        }
        self.started = Some(now);
        self.under_way = true;
        Some(std::mem::take(&mut self.stale).into_iter().collect())
    }

    pub fn finished(&mut self) {
        self.under_way = false;
    }

    /// When [`Refresher::start`] will have something though nothing happens.
    #[must_use]
    pub fn due(&self, caught_up: bool) -> Option<Instant> {
        let wanted = caught_up && !self.under_way && !self.stale.is_empty();
        self.started.map(|at| at + INTERVAL).filter(|_| wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_is_rare_single_and_never_in_catch_up() {
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
    fn the_index_may_see_to_it_itself() {
        let mut refresher = Refresher::new(Refresh::Index);
        refresher.written(std::iter::once(IndexId(0)));
        assert_eq!(refresher.start(Instant::now(), true), None);
    }
}
