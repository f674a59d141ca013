//! Which jobs this process works on, or has queued for work.
//!
//! A stage that takes up jobs holds their [`JobSet`] here until their fate is durable, so that the
//! rescue of stuck jobs leaves them alone however long Elasticsearch takes. The list is lost with
//! the process; the next run makes the jobs that it was working on `pending` when it begins.
//!
//! Not here: I/O, and what becomes of a stuck job (`storage::queue::rescue`).

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::job_set::JobSet;
use crate::change::Position;

/// The list. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<HeldJobs>>);

#[derive(Debug, Default)]
struct HeldJobs {
    next: u64,
    job_sets: BTreeMap<u64, JobSet>,
}

/// One entry of the list, removed when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct InFlightGuard {
    list: InFlight,
    number: u64,
}

impl InFlight {
    /// Adds jobs to the list.
    pub fn hold(&self, jobs: JobSet) -> InFlightGuard {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = held.next;
        held.next += 1;
        held.job_sets.insert(number, jobs);
        InFlightGuard { list: self.clone(), number }
    }

    /// The list as it is now.
    #[must_use]
    pub fn now(&self) -> InFlightSnapshot {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = InFlightSnapshot::default();
        for jobs in held.job_sets.values() {
            match jobs {
                JobSet::Range { first, last } => snapshot.ranges.push((*first, *last)),
                JobSet::Ids(ids) => snapshot.ids.extend(ids),
                JobSet::None => {}
            }
        }
        snapshot
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut held = self.list.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.job_sets.remove(&self.number);
    }
}

/// The list at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlightSnapshot {
    ranges: Vec<(Position, Position)>,
    ids: HashSet<i64>,
}

impl InFlightSnapshot {
    /// Whether this process works on the job.
    #[must_use]
    pub fn holds(&self, id: i64, position: Option<Position>) -> bool {
        let in_range = |at| self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&at));
        self.ids.contains(&id) || position.is_some_and(in_range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Lsn;

    fn at(lsn: u64, ordinal: u64) -> Position {
        Position { commit_lsn: Lsn(lsn), ordinal }
    }

    #[test]
    fn jobs_are_in_flight_as_long_as_they_are_held() {
        let in_flight = InFlight::default();
        let range = in_flight.hold(JobSet::Range { first: at(8, 3), last: at(16, 1) });
        let ids = in_flight.hold(JobSet::Ids(vec![7, 9]));
        let snapshot = in_flight.now();
        for (id, position, expected) in [
            (1, Some(at(8, 2)), false),
            (1, Some(at(8, 3)), true),
            (1, Some(at(16, 1)), true),
            (1, Some(at(16, 2)), false),
            (7, None, true),
            (8, None, false),
        ] {
            assert_eq!(snapshot.holds(id, position), expected, "{id} {position:?}");
        }
        drop(range);
        assert!(!in_flight.now().holds(1, Some(at(8, 3))));
        drop(ids);
        assert_eq!(in_flight.now(), InFlightSnapshot::default());
    }
}
