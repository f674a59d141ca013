//! Readiness: the components that indexing depends on, and whether each of them works.
//!
//! The stages report the state of the components; `/readyz` returns it.
//!
//! Not here: metrics (`metrics`) and the HTTP response (`api`).

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::sync::watch;

/// A component that indexing depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// PostgreSQL is reachable and contains the queue table.
    Database,
    /// The replication slot exists and this instance streams from it.
    Slot,
    /// Elasticsearch is reachable.
    Elasticsearch,
    /// The indices and their aliases exist.
    Indices,
    /// The first load is complete or in progress.
    Load,
    /// The sink has a source: the first load, the queue table or the stream.
    Mode,
}

impl Component {
    /// All components, in the order in which they become ready.
    pub const ALL: [Self; 6] =
        [Self::Database, Self::Slot, Self::Elasticsearch, Self::Indices, Self::Load, Self::Mode];

    /// The component's name in responses.
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

/// The last reported state of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentState {
    /// True if the component works.
    pub ok: bool,
    /// True if another instance does the work of this component.
    is_standby: bool,
    /// The time of the last change of `ok`.
    pub since: SystemTime,
    /// A description for operators, without row values and secrets.
    pub message: String,
}

/// The state of all components at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness(BTreeMap<Component, ComponentState>);

impl Readiness {
    /// True if all components work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.values().all(|state| state.ok)
    }

    /// True if this instance waits for another one to end.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        self.0.get(&Component::Slot).is_some_and(|slot| slot.is_standby)
    }

    /// True if a component works.
    #[must_use]
    pub fn is_ok(&self, component: Component) -> bool {
        self.0.get(&component).is_some_and(|state| state.ok)
    }

    /// The components with their states.
    pub fn iter(&self) -> impl Iterator<Item = (Component, &ComponentState)> {
        self.0.iter().map(|(component, state)| (*component, state))
    }
}

/// Receives the reports of the stages. Clones share the state.
#[derive(Clone, Debug)]
pub struct ReadinessReporter(watch::Sender<Readiness>);

impl ReadinessReporter {
    /// The initial state: no component works.
    #[must_use]
    pub fn new() -> Self {
        let since = SystemTime::now();
        let message = "not reached yet".to_owned();
        let state = ComponentState { ok: false, is_standby: false, since, message };
        let all = Component::ALL.map(|component| (component, state.clone()));
        Self(watch::Sender::new(Readiness(BTreeMap::from(all))))
    }

    /// Reports that a component works.
    pub fn ok(&self, component: Component, message: impl Into<String>) {
        self.set(component, Condition::Ok, message.into());
    }

    /// Reports that a component does not work, with the reason.
    pub fn fault(&self, component: Component, message: impl Into<String>) {
        self.set(component, Condition::Fault, message.into());
    }

    /// Reports that another instance streams from the slot.
    pub fn standby(&self, message: impl Into<String>) {
        self.set(Component::Slot, Condition::Standby, message.into());
    }

    /// The current state.
    #[must_use]
    pub fn now(&self) -> Readiness {
        self.0.borrow().clone()
    }

    /// A receiver of all later changes of the state.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Readiness> {
        self.0.subscribe()
    }

    fn set(&self, component: Component, condition: Condition, message: String) {
        let ok = condition == Condition::Ok;
        let is_standby = condition == Condition::Standby;
        self.0.send_if_modified(|readiness| {
            let known = readiness.0.get_mut(&component).expect("all components are there");
            let since = if known.ok == ok { known.since } else { SystemTime::now() };
            let next = ComponentState { ok, is_standby, since, message };
            let changed = *known != next;
            *known = next;
            changed
        });
    }
}

/// A reported condition of a component.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Ok,
    Fault,
    /// Another instance does the work.
    Standby,
}

impl Default for ReadinessReporter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Component, ReadinessReporter};

    #[test]
    fn ready_when_all_components_work() {
        let reporter = ReadinessReporter::new();
        for component in Component::ALL {
            assert!(!reporter.now().is_ready());
            reporter.ok(component, "");
        }
        assert!(reporter.now().is_ready());
        reporter.fault(Component::Elasticsearch, "connection refused");
        assert!(!reporter.now().is_ready());
    }

    #[test]
    fn a_standby_ends_with_the_next_report_of_the_slot() {
        let reporter = ReadinessReporter::new();
        reporter.fault(Component::Slot, "standing by the door");
        assert!(!reporter.now().is_standby());
        reporter.standby("another instance works");
        assert!(reporter.now().is_standby());
        for set in [ReadinessReporter::ok, ReadinessReporter::fault] {
            reporter.standby("another instance works");
            set(&reporter, Component::Slot, "");
            assert!(!reporter.now().is_standby());
        }
    }

    #[test]
    fn since_changes_only_when_ok_does() {
        let reporter = ReadinessReporter::new();
        let since = |reporter: &ReadinessReporter| {
            reporter.now().iter().next().map(|(_, state)| state.since)
        };
        let first = since(&reporter);
        reporter.fault(Component::Database, "another reason");
        assert_eq!(since(&reporter), first);
        reporter.ok(Component::Database, "");
        assert!(since(&reporter) >= first);
    }
}
