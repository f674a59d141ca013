//! The waits of the pipeline by name: for what, since when, up to when, and what follows.
//!
//! A task that may have to wait for something outside of itself says so before it waits. So a
//! pipeline that does not move can be asked what it waits for, and a wait that is longer than its
//! bound is reported, even where nothing else can be done about it.
//!
//! Not here: reporting a wait past its bound (`engine::supervisor`, `admin::health`).

mod name;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use name::{WaitDescription, WaitName};

/// A wait that has begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OngoingWait {
    pub name: WaitName,
    pub since: SystemTime,
    /// How long it has lasted.
    pub lasted: Duration,
}

impl OngoingWait {
    /// Whether it has lasted longer than its bound.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.lasted > self.name.description().bound
    }
}

/// The waits of one process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Waits(Arc<Mutex<OpenWaits>>);

#[derive(Debug, Default)]
struct OpenWaits {
    next: u64,
    open: Vec<OpenWait>,
}

#[derive(Debug)]
struct OpenWait {
    number: u64,
    name: WaitName,
    since: SystemTime,
    began: Instant,
}

impl Waits {
    /// Begins a wait, which ends when the guard is dropped.
    pub fn begin(&self, name: WaitName) -> WaitGuard {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        let entry = OpenWait { number, name, since: SystemTime::now(), began: Instant::now() };
        entries.open.push(entry);
        drop(entries);
        WaitGuard { waits: self.clone(), number }
    }

    /// Awaits `work` as a wait of this name.
    pub async fn during<T>(&self, name: WaitName, work: impl Future<Output = T>) -> T {
        let _wait = self.begin(name);
        work.await
    }

    /// The waits of now: of each name the longest, in the order of the names.
    #[must_use]
    pub fn now(&self) -> Vec<OngoingWait> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Vec<OngoingWait> {
        let entries = self.entries();
        let mut waiting: Vec<OngoingWait> = entries
            .open
            .iter()
            .map(|entry| OngoingWait {
                name: entry.name,
                since: entry.since,
                lasted: now.saturating_duration_since(entry.began),
            })
            .collect();
        drop(entries);
        waiting.sort_by_key(|wait| (wait.name, std::cmp::Reverse(wait.lasted)));
        waiting.dedup_by_key(|wait| wait.name);
        waiting
    }

    /// The waits that have lasted longer than their bounds.
    #[must_use]
    pub fn overdue(&self) -> Vec<OngoingWait> {
        let mut waiting = self.now();
        waiting.retain(OngoingWait::is_overdue);
        waiting
    }

    fn entries(&self) -> MutexGuard<'_, OpenWaits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a wait when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct WaitGuard {
    waits: Waits,
    number: u64,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.waits.entries().open.retain(|entry| entry.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The names and seconds of the waits after some time.
    fn after(waits: &Waits, time: Duration) -> Vec<(WaitName, u64)> {
        let waiting = waits.at(Instant::now() + time);
        waiting.iter().map(|wait| (wait.name, wait.lasted.as_secs())).collect()
    }

    #[test]
    fn each_wait_is_overdue_past_its_bound_and_not_before() {
        for name in WaitName::ALL {
            let waits = Waits::default();
            let bound = name.description().bound;
            let wait = waits.begin(name);
            let is_overdue = |time| waits.at(Instant::now() + time)[0].is_overdue();
            assert!(!is_overdue(bound.saturating_sub(SECOND)), "{name:?}");
            assert!(is_overdue(bound + SECOND), "{name:?}");
            assert_eq!(waits.overdue(), [], "{name:?}");
            drop(wait);
            assert_eq!(waits.now(), []);
        }
    }

    #[test]
    fn of_each_name_the_longest_wait_is_shown() {
        let waits = Waits::default();
        let _other = waits.begin(WaitName::Record);
        let earlier = waits.begin(WaitName::Bulk);
        let _later = waits.begin(WaitName::Bulk);
        for (number, seconds) in [(0, 1), (1, 9), (2, 4)] {
            waits.entries().open[number].began -= SECOND * seconds;
        }
        assert_eq!(after(&waits, SECOND), [(WaitName::Record, 2), (WaitName::Bulk, 10)]);
        drop(earlier);
        assert_eq!(after(&waits, SECOND), [(WaitName::Record, 2), (WaitName::Bulk, 5)]);
    }

    #[tokio::test]
    async fn a_wait_ends_with_its_work_even_where_that_is_dropped() {
        let waits = Waits::default();
        let seen = waits.during(WaitName::Settle, async { waits.now().len() }).await;
        assert_eq!(seen, 1);
        assert_eq!(waits.now(), []);
        let mut endless = Box::pin(waits.during(WaitName::Settle, std::future::pending::<()>()));
        tokio::select! { biased; () = &mut endless => {}, () = std::future::ready(()) => {} }
        assert_eq!(waits.now().len(), 1);
        drop(endless);
        assert_eq!(waits.now(), []);
    }
}
