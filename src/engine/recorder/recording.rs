//! Whether changes are held back, captured, or handed to the feed. Pure, except that
//! [`Recording::room`] waits for the live channel.
//!
//! Not here: writing them (`recorder`), and the order to capture (`engine::control`).

use std::future::pending;

use tokio::sync::mpsc;
use tokio::sync::mpsc::OwnedPermit;

use super::Recorded;
use crate::engine::control::CaptureOrder;
use crate::telemetry::mode::FeedMode;

/// What the recorder does with the changes that the stream delivers.
#[derive(Debug)]
pub enum Recording {
    /// Nothing is written. The recorder is faster than a feed that reads rows back, so writing
    /// would keep the feed from reaching the end of the table.
    Holding,
    /// Jobs are written as `pending`; the feed finds them in the table.
    Capturing(CaptureReason),
    /// Jobs are written as `processing` and sent to the feed.
    Live(mpsc::Sender<Recorded>),
}

/// Why changes are captured without the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureReason {
    /// The supervisor orders it.
    Ordered(CaptureOrder),
    /// Elasticsearch has not answered since the run began.
    SinkAwaited,
    /// The first load takes long, and the slot's WAL must not pile up meanwhile.
    FirstLoad,
    /// Nothing settles although the feed has batches.
    SettlementStalled,
}

/// What the next state depends on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// The supervisor orders that changes are only captured.
    pub ordered: Option<CaptureOrder>,
    /// The feed has finished the table and asks to go live.
    pub requested: bool,
    /// The recorder is live.
    pub live: bool,
    /// Settlement has stalled, and nothing has settled since.
    pub stalled: bool,
    pub mode: FeedMode,
    /// The time allowed for Elasticsearch's first answer has passed.
    pub start_expired: bool,
}

/// The decision on the next state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Hold,
    Capture(CaptureReason),
    GoLive,
    StayLive,
}

/// Decides the next state. An order to capture precedes everything; a request of the feed precedes
/// what the feed is known to do.
#[must_use]
pub const fn next(inputs: Inputs) -> Next {
    if let Some(order) = inputs.ordered {
        return Next::Capture(CaptureReason::Ordered(order));
    }
    if inputs.requested {
        return Next::GoLive;
    }
    if inputs.live {
        return Next::StayLive;
    }
    if inputs.stalled {
        return Next::Capture(CaptureReason::SettlementStalled);
    }
    match inputs.mode {
        FeedMode::Starting if inputs.start_expired => Next::Capture(CaptureReason::SinkAwaited),
        FeedMode::Load => Next::Capture(CaptureReason::FirstLoad),
        FeedMode::Starting | FeedMode::Preparing | FeedMode::Table | FeedMode::Live => Next::Hold,
    }
}

/// Room for one batch, reserved before its jobs are written.
#[derive(Debug)]
pub enum BatchRoom {
    /// The table alone.
    Table,
    /// A place in the live channel.
    Feed(OwnedPermit<Recorded>),
    /// The feed has dropped its end of the live channel.
    FeedGone,
}

impl Recording {
    /// Whether nothing is written.
    #[must_use]
    pub const fn is_holding(&self) -> bool {
        matches!(self, Self::Holding)
    }

    /// Whether batches go to the feed.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// Waits for room for the next batch; for ever while holding.
    pub async fn room(&self) -> BatchRoom {
        match self {
            Self::Holding => pending().await,
            Self::Capturing(_) => BatchRoom::Table,
            Self::Live(feed) => match feed.clone().reserve_owned().await {
                Ok(permit) => BatchRoom::Feed(permit),
                Err(_) => BatchRoom::FeedGone,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FeedMode::{Live, Load, Preparing, Starting, Table};

    /// Nothing is ordered, requested or stalled.
    const QUIET: Inputs = Inputs {
        ordered: None,
        requested: false,
        live: false,
        stalled: false,
        mode: Table,
        start_expired: true,
    };

    #[track_caller]
    fn check(inputs: Inputs, expected: Next) {
        assert_eq!(next(inputs), expected, "{inputs:?}");
    }

    #[test]
    fn without_an_order_or_a_request_the_mode_decides() {
        use CaptureReason::{FirstLoad, SinkAwaited};
        check(Inputs { mode: Starting, start_expired: false, ..QUIET }, Next::Hold);
        check(Inputs { mode: Starting, ..QUIET }, Next::Capture(SinkAwaited));
        check(Inputs { mode: Preparing, ..QUIET }, Next::Hold);
        check(Inputs { mode: Load, ..QUIET }, Next::Capture(FirstLoad));
        check(Inputs { mode: Load, start_expired: false, ..QUIET }, Next::Capture(FirstLoad));
        check(Inputs { mode: Table, ..QUIET }, Next::Hold);
        // The feed has still to take the last batches of the live channel.
        check(Inputs { mode: Live, ..QUIET }, Next::Hold);
    }

    #[test]
    fn an_order_precedes_everything() {
        use CaptureOrder::{OperatorHalt, RetentionGuard, SinkDown};
        for order in [OperatorHalt, RetentionGuard, SinkDown] {
            let expected = Next::Capture(CaptureReason::Ordered(order));
            for mode in [Starting, Preparing, Load, Table, Live] {
                let inputs = Inputs { ordered: Some(order), mode, ..QUIET };
                check(inputs, expected);
                check(Inputs { start_expired: false, ..inputs }, expected);
                check(Inputs { requested: true, ..inputs }, expected);
                check(Inputs { live: true, ..inputs }, expected);
                check(Inputs { stalled: true, ..inputs }, expected);
            }
        }
    }

    #[test]
    fn a_request_of_the_feed_ends_a_stall() {
        check(Inputs { requested: true, ..QUIET }, Next::GoLive);
        check(Inputs { requested: true, stalled: true, ..QUIET }, Next::GoLive);
    }

    #[test]
    fn live_lasts_until_something_ends_it() {
        for mode in [Table, Live] {
            check(Inputs { live: true, mode, ..QUIET }, Next::StayLive);
        }
    }

    #[test]
    fn changes_are_captured_until_something_settles_after_a_stall() {
        for mode in [Starting, Preparing, Load, Table, Live] {
            let expected = Next::Capture(CaptureReason::SettlementStalled);
            check(Inputs { stalled: true, mode, ..QUIET }, expected);
        }
    }
}
