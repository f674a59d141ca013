//! Whether progress is possible, and if not, what is missing. Stages report; `/readyz` tells.
//!
//! Not here: figures (`metrics`) and the HTTP answer (`api`).

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::sync::watch;

/// What must be well for a change to reach Elasticsearch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// PostgreSQL answers, and the queue is there.
    Database,
    /// The slot exists, is ours and is read.
    Slot,
    /// Elasticsearch answers.
    Elasticsearch,
    /// The indices and their aliases exist.
    Indices,
    /// The first load is done or goes on.
    Load,
    /// Something feeds the sink: the load, the table or the stream.
    Mode,
}

impl Component {
    /// All of them, in the order in which they become well.
    pub const ALL: [Self; 6] =
        [Self::Database, Self::Slot, Self::Elasticsearch, Self::Indices, Self::Load, Self::Mode];

    /// Its name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Slot => "slot",
            Self::Elasticsearch => "elasticsearch",
            Self::Indices => "indices",
            Self::Load => "load",
            Self::Mode => "mode",
        }
    }
}

/// What was last reported of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub ok: bool,
    /// Not well because another instance does the work.
    standing_by: bool,
    /// Since when `ok` has this value.
    pub since: SystemTime,
    /// For people. No row values, no secrets.
    pub message: String,
}

/// All components at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness(BTreeMap<Component, State>);

impl Readiness {
    /// True if nothing is missing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.values().all(|state| state.ok)
    }

    /// True on an instance that waits for another one's end.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.0.get(&Component::Slot).is_some_and(|slot| slot.standing_by)
    }

    /// Whether a component is well.
    #[must_use]
    pub fn is_ok(&self, component: Component) -> bool {
        self.0.get(&component).is_some_and(|state| state.ok)
    }

    /// Each component with its state.
    pub fn iter(&self) -> impl Iterator<Item = (Component, &State)> {
        self.0.iter().map(|(component, state)| (*component, state))
    }
}

/// The place where stages report. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Status(watch::Sender<Readiness>);

impl Status {
    /// Nothing is well yet.
    #[must_use]
    pub fn new() -> Self {
        let since = SystemTime::now();
        let message = "not reached yet".to_owned();
        let state = State { ok: false, standing_by: false, since, message };
        let all = Component::ALL.map(|component| (component, state.clone()));
        Self(watch::Sender::new(Readiness(BTreeMap::from(all))))
    }

    /// The component is well.
    pub fn ok(&self, component: Component, message: impl Into<String>) {
        self.set(component, (true, false), message.into());
    }

    /// The component is not well; the message says why.
    pub fn fault(&self, component: Component, message: impl Into<String>) {
        self.set(component, (false, false), message.into());
    }

    /// Another instance reads the slot; the message says which.
    pub fn standby(&self, message: impl Into<String>) {
        self.set(Component::Slot, (false, true), message.into());
    }

    /// What is known now.
    #[must_use]
    pub fn now(&self) -> Readiness {
        self.0.borrow().clone()
    }

    /// Told of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Readiness> {
        self.0.subscribe()
    }

    fn set(&self, component: Component, (ok, standing_by): (bool, bool), message: String) {
        self.0.send_if_modified(|readiness| {
            let known = readiness.0.get_mut(&component).expect("all components are there");
            let since = if known.ok == ok { known.since } else { SystemTime::now() };
            let next = State { ok, standing_by, since, message };
            let changed = *known != next;
            *known = next;
            changed
        });
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Component, Status};

    #[test]
    fn ready_when_nothing_is_missing() {
        let status = Status::new();
        for component in Component::ALL {
            assert!(!status.now().is_ready());
            status.ok(component, "");
        }
        assert!(status.now().is_ready());
        status.fault(Component::Elasticsearch, "connection refused");
        assert!(!status.now().is_ready());
    }

    #[test]
    fn a_standby_is_one_until_the_slot_is_its_own() {
        let status = Status::new();
        status.fault(Component::Slot, "standing by the door");
        assert!(!status.now().is_standby());
        status.standby("another instance works");
        assert!(status.now().is_standby());
        for set in [Status::ok, Status::fault] {
            status.standby("another instance works");
            set(&status, Component::Slot, "");
            assert!(!status.now().is_standby());
        }
    }

    #[test]
    fn since_moves_only_when_the_verdict_does() {
        let status = Status::new();
        let since = |status: &Status| status.now().iter().next().map(|(_, state)| state.since);
        let first = since(&status);
        status.fault(Component::Database, "another reason");
        assert_eq!(since(&status), first);
        status.ok(Component::Database, "");
        assert!(since(&status) >= first);
    }
}
