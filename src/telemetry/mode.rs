//! The source of the feed and the activity of the process, for the stages, the metric and the API.
//!
//! Not here: the transitions between them (`engine::run`, `engine::feed`).

/// The source that the feed works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedMode {
    /// None yet: Elasticsearch has not answered.
    Starting,
    /// None yet: the indices are being prepared.
    Preparing,
    /// The first load: the rows that were committed before the slot was created.
    Load,
    /// The unfinished jobs of the queue table.
    Table,
    /// The stream: the changes that the recorder has written.
    Live,
}

impl FeedMode {
    /// The name of the source in responses.
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

/// The activity of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// The feed works on this source.
    Feeding(FeedMode),
    /// None: an operator stopped indexing.
    Stopped,
    /// None: another instance holds the lease.
    Standby,
}

impl Activity {
    /// All values of the metric's label `mode`.
    pub const LABELS: [&'static str; 6] =
        ["starting", "load", "table", "live", "stopped", "standby"];

    /// The value of the metric's label `mode`. [`FeedMode::Preparing`] has the label `starting`.
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
