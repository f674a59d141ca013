//! Parks the actions of an index that stays closed, so that they hold up nothing else.
//!
//! A parked action is dropped and its jobs are `pending` again: they come back as jobs that are
//! due, and are rendered by reads under their own versions. Actions of the first load have no job
//! and go on waiting.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Dispatcher;
use crate::engine::document::id::IndexId;

/// An index is closed this long before its actions are parked for want of room.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// An index is closed this long before its actions are parked in any case, so that the other jobs
/// of their batches settle.
const PATIENCE: Duration = Duration::from_secs(10);
/// Jobs are due after as long as their index has been closed, between these.
const WAIT_MIN: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Whether the actions of a closed index are parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    Allowed,
    /// The run ends once everything is indexed, so everything waits.
    Never,
}

impl Dispatcher {
    /// Whether the feed waits for room.
    pub fn set_room_wanted(&mut self, wanted: bool) {
        self.room_wanted = wanted;
    }

    /// Parks what waits for indices that have been closed for too long. Call it once
    /// [`Dispatcher::next`] has returned `None`: a probe that is due has its actions then.
    pub fn park(&mut self, now: Instant) {
        if self.parking == Parking::Never || !self.service.is_closed() {
            return;
        }
        let patience = if self.room_wanted { SHORT_PATIENCE } else { PATIENCE };
        for (index, circuit) in (0..).map(IndexId).zip(&self.circuits) {
            let Some(failing) = &circuit.failing else { continue };
            let closed_for = now.saturating_duration_since(failing.since);
            if closed_for < patience {
                continue;
            }
            let name = &self.names[usize::from(index.0)];
            // A `text` takes no NUL, and the sentence quotes what Elasticsearch answered.
            let sentence = format!("waits for index {name}: {}", failing.reason.replace('\0', ""));
            let reason: Arc<str> = sentence.into();
            let wait = closed_for.clamp(WAIT_MIN, WAIT_MAX);
            for action in self.pending.park(index) {
                let jobs = action.jobs.into_iter();
                self.settled.extend(jobs.filter_map(|job| job.parked(Arc::clone(&reason), wait)));
            }
        }
        self.publish_load();
    }
}
