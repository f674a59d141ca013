//! The control plane of a run: what the supervisor decides, and what the indexing half reports.
//!
//! Both are one value on one watch channel, so that a reader never sees half of a decision. The
//! decision is a pure function of the conditions.
//!
//! Not here: observing the conditions (`supervisor`), and obeying (`recorder`, `feed`,
//! `checkpoint`).

use std::collections::BTreeSet;

use crate::change::Lsn;
use crate::telemetry::mode::FeedMode;

/// Why changes must be captured without the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureOrder {
    /// An operator stopped indexing.
    OperatorHalt,
    /// The slot retains more WAL than allowed.
    RetentionGuard,
    /// Elasticsearch, or each of its indices, has not taken documents for a while.
    SinkDown,
}

/// What the settlements of this run add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettlementProgress {
    /// Up to here everything is settled and stored.
    pub settled: Lsn,
    /// Jobs completed and failed.
    pub completed: u64,
    pub failed: u64,
}

/// What the settlements of this run did to fan-outs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FanoutSettlements {
    /// Fan-outs that began.
    pub begun: u64,
    /// Chunks whose progress is stored.
    pub chunks: u64,
}

/// What must have happened to a change before its LSN is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcknowledgeAt {
    /// Its job is settled.
    #[default]
    Settled,
    /// Its job is recorded: the retention guard lets the server drop WAL while jobs wait.
    Recorded,
}

/// What the supervisor decides, for the recorder, the feed and the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The recorder only captures, for this reason.
    pub capture: Option<CaptureOrder>,
    /// The feed begins no batch.
    pub halted: bool,
    /// What the checkpoint acknowledges.
    pub acknowledge_at: AcknowledgeAt,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunConditions {
    /// An operator's `stop` holds.
    pub operator_halt: bool,
    /// The retention guard is on.
    pub retention_guard: bool,
    /// The sink has been down for longer than it may be.
    pub sink_down: bool,
}

/// Decides what the stages must do under these conditions.
#[must_use]
pub const fn decide(conditions: RunConditions) -> Control {
    let RunConditions { operator_halt, retention_guard, sink_down } = conditions;
    let capture = if operator_halt {
        Some(CaptureOrder::OperatorHalt)
    } else if retention_guard {
        Some(CaptureOrder::RetentionGuard)
    } else if sink_down {
        Some(CaptureOrder::SinkDown)
    } else {
        None
    };
    let acknowledge_at =
        if retention_guard { AcknowledgeAt::Recorded } else { AcknowledgeAt::Settled };
    Control { capture, halted: operator_halt, acknowledge_at }
}

/// The aliases of the indices that take no documents: the jobs that wait for them stay parked.
pub type ClosedIndices = BTreeSet<String>;

/// What the half of a run that needs Elasticsearch reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexingReport {
    pub mode: FeedMode,
    /// Everything recorded has been rendered.
    pub caught_up: bool,
    /// Searches see what the first load has indexed.
    pub load_searchable: bool,
    /// No fan-out goes on in the background.
    pub fanouts_finished: bool,
}

impl Default for IndexingReport {
    fn default() -> Self {
        Self {
            mode: FeedMode::Starting,
            caught_up: false,
            load_searchable: false,
            fanouts_finished: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AcknowledgeAt::{Recorded, Settled};
    use CaptureOrder::{OperatorHalt, RetentionGuard, SinkDown};

    /// `conditions`: an operator's halt, the retention guard, the sink is down.
    #[track_caller]
    fn check(conditions: [bool; 3], capture: Option<CaptureOrder>, acknowledge_at: AcknowledgeAt) {
        let [operator_halt, retention_guard, sink_down] = conditions;
        let decided = decide(RunConditions { operator_halt, retention_guard, sink_down });
        let expected = Control { capture, halted: operator_halt, acknowledge_at };
        assert_eq!(decided, expected, "{conditions:?}");
    }

    #[test]
    fn every_combination_of_conditions_has_its_decision() {
        check([false, false, false], None, Settled);
        check([false, false, true], Some(SinkDown), Settled);
        check([false, true, false], Some(RetentionGuard), Recorded);
        check([false, true, true], Some(RetentionGuard), Recorded);
        check([true, false, false], Some(OperatorHalt), Settled);
        check([true, false, true], Some(OperatorHalt), Settled);
        check([true, true, false], Some(OperatorHalt), Recorded);
        check([true, true, true], Some(OperatorHalt), Recorded);
    }
}
