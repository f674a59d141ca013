//! Which jobs have a live request or fan-out behind them, or wait in this process for one.
//!
//! Whoever takes jobs up holds their [`JobSet`] here until their fate is durable, so that the
//! rescue of stuck jobs leaves them alone however long Elasticsearch takes. A process that dies
//! takes its list with it: what it left is stuck.
//!
//! Not here: I/O, and what becomes of a stuck job (`rescue`).

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::job_set::JobSet;
use crate::change::Position;

/// The list. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    next: u64,
    extents: BTreeMap<u64, JobSet>,
}

/// One entry of the list; dropping it takes it out.
#[derive(Debug)]
#[must_use]
pub struct InFlightGuard {
    alive: InFlight,
    number: u64,
}

impl InFlight {
    /// Puts jobs on the list.
    pub fn hold(&self, extent: JobSet) -> InFlightGuard {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = held.next;
        held.next += 1;
        held.extents.insert(number, extent);
        InFlightGuard { alive: self.clone(), number }
    }

    /// What is on the list now.
    #[must_use]
    pub fn now(&self) -> InFlightSnapshot {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut living = InFlightSnapshot::default();
        for extent in held.extents.values() {
            match extent {
                JobSet::Range { first, last } => living.ranges.push((*first, *last)),
                JobSet::Ids(ids) => living.ids.extend(ids),
                JobSet::None => {}
            }
        }
        living
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut held = self.alive.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.extents.remove(&self.number);
    }
}

/// The list at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlightSnapshot {
    ranges: Vec<(Position, Position)>,
    ids: HashSet<i64>,
}

impl InFlightSnapshot {
    /// Whether somebody works on this job.
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
    fn jobs_are_alive_as_long_as_they_are_held() {
        let alive = InFlight::default();
        let range = alive.hold(JobSet::Range { first: at(8, 3), last: at(16, 1) });
        let ids = alive.hold(JobSet::Ids(vec![7, 9]));
        let living = alive.now();
        for (id, position, expected) in [
            (1, Some(at(8, 2)), false),
            (1, Some(at(8, 3)), true),
            (1, Some(at(16, 1)), true),
            (1, Some(at(16, 2)), false),
            (7, None, true),
            (8, None, false),
        ] {
            assert_eq!(living.holds(id, position), expected, "{id} {position:?}");
        }
        drop(range);
        assert!(!alive.now().holds(1, Some(at(8, 3))));
        drop(ids);
        assert_eq!(alive.now(), InFlightSnapshot::default());
    }
}
