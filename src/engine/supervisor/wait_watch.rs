//! Reports each wait of the pipeline that lasts longer than its bound. While the renewal of the lease
//! does, walferry is not ready: PostgreSQL answers, but confirms no commit.
//!
//! It waits for the clock alone, so that it reports also while everything else waits.
//!
//! Not here: the bounds, and what follows apart from the report (`telemetry::waits`).

use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use crate::telemetry::readiness::{Component, ReadinessReporter};
use crate::telemetry::waits::{OngoingWait, WaitName, Waits};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A commit waits without end for a synchronous standby that is gone (`SyncRep` in PostgreSQL's wait
/// events); reads go on.
const UNCONFIRMED: &str = "PostgreSQL does not confirm the renewal of the lease; if a synchronous \
    standby is gone, every commit waits for it: see pg_stat_replication and \
    synchronous_standby_names";

/// Logs every wait past its bound once, and its end. Never returns.
pub async fn run(waits: Waits, status: ReadinessReporter) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = Reported::default();
    let mut is_confirmed = true;
    loop {
        tick.tick().await;
        let overdue = waits.overdue();
        reported.report(&overdue);
        let is_renewed = overdue.iter().all(|wait| wait.name != WaitName::Lease);
        if std::mem::replace(&mut is_confirmed, is_renewed) != is_renewed {
            if is_renewed {
                status.ok(Component::Database, "connected");
            } else {
                status.fault(Component::Database, UNCONFIRMED);
            }
        }
    }
}

/// The waits that were reported and have not ended, with their beginnings.
#[derive(Debug, Default)]
struct Reported(Vec<(WaitName, SystemTime)>);

impl Reported {
    /// Logs what is new in this list of all overdue waits. Returns the names of those.
    fn report(&mut self, overdue: &[OngoingWait]) -> Vec<WaitName> {
        let is_overdue = |(name, since): &(WaitName, SystemTime)| {
            overdue.iter().any(|wait| wait.name == *name && wait.since == *since)
        };
        for (name, _) in self.0.extract_if(.., |known| !is_overdue(known)) {
            let wait = name.description();
            tracing::info!(event = "wait_ended", wait = wait.name, "the wait is over");
        }
        let mut new = Vec::new();
        for wait in overdue {
            if self.0.contains(&(wait.name, wait.since)) {
                continue;
            }
            self.0.push((wait.name, wait.since));
            new.push(wait.name);
            let description = wait.name.description();
            tracing::warn!(
                event = "wait_overdue",
                wait = description.name,
                seconds = wait.lasted.as_secs(),
                past_bound = description.past_bound,
                "walferry waits for {}",
                description.waits_for
            );
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_reported_once_and_a_later_one_again() {
        let at = |name, seconds| OngoingWait {
            name,
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            lasted: Duration::from_secs(60),
        };
        let settle = at(WaitName::Settle, 1);
        let record = at(WaitName::Record, 2);
        let mut reported = Reported::default();
        assert_eq!(reported.report(&[settle]), [WaitName::Settle]);
        assert_eq!(reported.report(&[settle, record]), [WaitName::Record]);
        assert_eq!(reported.report(&[record]), []);
        assert_eq!(reported.report(&[at(WaitName::Settle, 3), record]), [WaitName::Settle]);
    }
}
