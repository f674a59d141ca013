//! Health issues for programs: a stable code and the figures that belong to it.
//!
//! Not here: when there is an issue, and the sentences for people (the parent; the page has its own).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::telemetry::readiness::Component;

/// The code of an issue, in lower case for programs. A code that was released stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    FiguresUnreadable,
    Standby,
    DatabaseDown,
    SlotNotRead,
    ElasticsearchDown,
    IndicesNotReady,
    LoadUnfinished,
    NothingFed,
    IndexingStopped,
    NothingFinished,
    StuckJobs,
    FailedJobs,
    ErrorRateHigh,
    ChangesLate,
    LockAwaited,
    IndexAwaited,
    DocumentsDiffer,
    SlotMissing,
    SlotRefused,
    SlotLost,
    SlotUnreserved,
    SlotHeadroomLow,
    NotRunning,
    WaitOverdue,
}

impl Code {
    /// The figures that come with it.
    #[must_use]
    pub const fn values(self) -> &'static [&'static str] {
        match self {
            Self::FiguresUnreadable
            | Self::DatabaseDown
            | Self::SlotNotRead
            | Self::ElasticsearchDown
            | Self::IndicesNotReady
            | Self::LoadUnfinished
            | Self::NothingFed => &["message"],
            Self::IndexingStopped => &["count", "since"],
            Self::NothingFinished | Self::ChangesLate => &["count", "seconds"],
            Self::StuckJobs | Self::FailedJobs | Self::DocumentsDiffer => &["count"],
            Self::IndexAwaited => &["index", "count"],
            Self::LockAwaited => &["pid", "application", "seconds"],
            Self::WaitOverdue => &["wait", "waits_for", "seconds"],
            Self::ErrorRateHigh => &["count", "total"],
            Self::SlotHeadroomLow => &["retained_mib", "safe_mib"],
            Self::Standby
            | Self::SlotMissing
            | Self::SlotRefused
            | Self::SlotLost
            | Self::SlotUnreserved
            | Self::NotRunning => &[],
        }
    }

    /// With its figures, in the order of [`Code::values`].
    pub(super) fn with<const N: usize>(self, values: [Value; N]) -> HealthIssue {
        debug_assert_eq!(N, self.values().len(), "{self:?}");
        HealthIssue { code: self, values: self.values().iter().copied().zip(values).collect() }
    }
}

impl From<Component> for Code {
    fn from(component: Component) -> Self {
        match component {
            Component::Database => Self::DatabaseDown,
            Component::Slot => Self::SlotNotRead,
            Component::Elasticsearch => Self::ElasticsearchDown,
            Component::Indices => Self::IndicesNotReady,
            Component::Load => Self::LoadUnfinished,
            Component::Mode => Self::NothingFed,
        }
    }
}

/// An issue for programs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Detail")]
pub struct HealthIssue {
    pub code: Code,
    /// Numbers, and words that only the server knows, by name.
    pub values: BTreeMap<&'static str, Value>,
}

impl From<Code> for HealthIssue {
    fn from(code: Code) -> Self {
        code.with([])
    }
}
