//! What the process works on: one list of words for the stages, the metric and the API.

/// The source that the feed works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedMode {
    /// Elasticsearch has not answered yet.
    Starting,
    /// It answers, and its indices are being made ready.
    Preparing,
    /// Rows that were there before the slot.
    Load,
    /// Unfinished jobs of the queue table.
    Table,
    /// What the recorder has just written.
    Live,
}

impl FeedMode {
    /// The word for the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Preparing => "preparing",
            Self::Load => "load",
            Self::Table => "table",
            Self::Live => "live",
        }
    }
}

/// What the process does as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// The feed works on this source.
    Feeding(FeedMode),
    /// Nothing: an operator stopped indexing.
    Stopped,
    /// Nothing: another instance holds the lease.
    Standby,
}

impl Activity {
    /// Every label of the metric.
    pub const LABELS: [&'static str; 6] =
        ["starting", "load", "table", "live", "stopped", "standby"];

    /// The label of the metric. It does not tell `preparing` from `starting`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Feeding(FeedMode::Preparing) => FeedMode::Starting.as_str(),
            Self::Feeding(mode) => mode.as_str(),
            Self::Stopped => "stopped",
            Self::Standby => "standby",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_activity_has_a_label_of_the_list() {
        use FeedMode::{Live, Load, Preparing, Starting, Table};
        let feeding = [Starting, Preparing, Load, Table, Live].map(Activity::Feeding);
        for activity in feeding.into_iter().chain([Activity::Stopped, Activity::Standby]) {
            assert!(Activity::LABELS.contains(&activity.label()), "{activity:?}");
        }
    }
}
