//! Whether the sink takes documents, and how long it has not.
//!
//! Not here: what follows from it (`engine::control`), and probing Elasticsearch (`sink`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::sink::state::{IndexStatus, ServiceStatus, SinkState};

/// After an outage of this length changes are captured without the feed.
pub const SINK_DOWN_MAX: Duration = Duration::from_secs(2);

/// Follows the state of the sink.
pub struct SinkWatch {
    service: watch::Receiver<ServiceStatus>,
    indices: watch::Receiver<Vec<IndexStatus>>,
    searches: watch::Receiver<Vec<Option<String>>>,
    outage: Outage,
}

impl SinkWatch {
    /// Follows this sink.
    #[must_use]
    pub fn new(state: &Arc<SinkState>) -> Self {
        Self {
            service: state.service(),
            indices: state.indices(),
            searches: state.searches(),
            outage: Outage::default(),
        }
    }

    /// Returns when the state has changed.
    pub async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.service.changed() => changed,
            changed = self.indices.changed() => changed,
            changed = self.searches.changed() => changed,
        };
        if changed.is_err() {
            std::future::pending::<()>().await; // the sink has ended, and the run ends with it
        }
    }

    /// Notes the state now; true once the sink has been down for longer than it may be.
    pub fn is_down(&mut self, now: Instant) -> bool {
        let is_up = matches!(&*self.service.borrow_and_update(), ServiceStatus::Up);
        // A closed index holds up no other: its jobs are parked.
        let is_any_open =
            self.indices.borrow_and_update().iter().any(|i| matches!(i, IndexStatus::Open));
        self.outage.observe(is_up && is_any_open, now);
        self.outage.is_long(now)
    }

    /// When the sink will have been down for longer than it may be; `None` while it is up.
    #[must_use]
    pub fn outage_limit(&self) -> Option<Instant> {
        self.outage.limit()
    }

    /// Why Elasticsearch takes no requests; `None` if it does.
    #[must_use]
    pub fn service_fault(&self) -> Option<String> {
        match &*self.service.borrow() {
            ServiceStatus::Up => None,
            ServiceStatus::Down { reason, .. } => Some(reason.clone()),
        }
    }

    /// Why an index takes no documents, or searches do not find its own; `None` if all is well.
    #[must_use]
    pub fn index_fault(&self) -> Option<String> {
        let closed = self.indices.borrow().iter().find_map(|index| match index {
            IndexStatus::Open => None,
            IndexStatus::Blocked { reason, .. } | IndexStatus::Missing { reason, .. } => {
                Some(reason.clone())
            }
        });
        closed.or_else(|| self.searches.borrow().iter().flatten().next().cloned())
    }
}

/// Since when the sink has been down. Pure.
#[derive(Clone, Copy, Debug, Default)]
struct Outage {
    since: Option<Instant>,
}

impl Outage {
    fn observe(&mut self, is_well: bool, now: Instant) {
        self.since = if is_well { None } else { self.since.or(Some(now)) };
    }

    fn limit(&self) -> Option<Instant> {
        self.since.map(|since| since + SINK_DOWN_MAX)
    }

    fn is_long(&self, now: Instant) -> bool {
        self.limit().is_some_and(|limit| now >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_long_after_its_limit_and_ends_at_once() {
        let start = Instant::now();
        let mut outage = Outage::default();
        // Milliseconds since the start, whether the sink is well, whether the outage is long.
        for (at, is_well, is_long) in [
            (0, true, false),
            (100, false, false),
            (2099, false, false),
            (2100, false, true),
            (9000, false, true),
            (9001, true, false),
            (9002, false, false),
            (11_001, false, false),
            (11_002, false, true),
        ] {
            let now = start + Duration::from_millis(at);
            outage.observe(is_well, now);
            assert_eq!(outage.is_long(now), is_long, "after {at} ms");
        }
    }
}
