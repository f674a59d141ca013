//! Which LSN may be acknowledged. Pure.
//!
//! The server forgets the WAL below an acknowledged LSN, and never sends it again. So an LSN is
//! acknowledged only when everything below it is settled or, under the retention guard, recorded.
//!
//! Not here: storing what a position rests on (`checkpoint`), and sending it (`wal::stream`).

use crate::change::Lsn;
use crate::engine::control::AcknowledgeAt;

/// How far the changes of the stream have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPositions {
    /// The server has sent everything below.
    pub received: Lsn,
    /// The queue table holds every change below.
    pub recorded: Lsn,
    /// Every job below has its fate, and the position is stored.
    pub settled: Lsn,
    /// The server may already treat everything below as durable.
    pub acknowledged: Lsn,
}

/// The decision for one set of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Everything below may be acknowledged.
    pub lsn: Lsn,
    /// This recorded end must be stored first: a slot ahead of the stored position would count as
    /// a slot that another program has advanced.
    pub store_first: Option<Lsn>,
}

/// Decides what may be acknowledged: never less than before, and never past what was received.
#[must_use]
pub fn acknowledge(positions: StreamPositions, at: AcknowledgeAt) -> Acknowledgement {
    let StreamPositions { received, recorded, settled, acknowledged } = positions;
    let durable = match at {
        AcknowledgeAt::Settled => settled,
        AcknowledgeAt::Recorded => settled.max(recorded),
    };
    let lsn = durable.min(received).max(acknowledged);
    let is_stored = lsn <= settled.max(acknowledged);
    Acknowledgement { lsn, store_first: (!is_stored).then_some(lsn) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AcknowledgeAt::{Recorded, Settled};

    /// `positions` are received, recorded, settled and acknowledged.
    #[track_caller]
    fn check(positions: [u64; 4], at: AcknowledgeAt, lsn: u64, store_first: Option<u64>) {
        let [received, recorded, settled, acknowledged] = positions.map(Lsn);
        let positions = StreamPositions { received, recorded, settled, acknowledged };
        let expected = Acknowledgement { lsn: Lsn(lsn), store_first: store_first.map(Lsn) };
        assert_eq!(acknowledge(positions, at), expected, "{positions:?} {at:?}");
    }

    #[test]
    fn what_is_settled_may_be_acknowledged() {
        check([0, 0, 0, 0], Settled, 0, None);
        check([40, 40, 0, 0], Settled, 0, None);
        check([40, 30, 20, 10], Settled, 20, None);
        check([40, 40, 40, 40], Settled, 40, None);
    }

    #[test]
    fn under_the_guard_what_is_recorded_may_be_acknowledged_once_it_is_stored() {
        check([40, 30, 20, 10], Recorded, 30, Some(30));
        check([40, 30, 20, 20], Recorded, 30, Some(30));
        // The settlement has stored as much.
        check([40, 30, 30, 10], Recorded, 30, None);
        check([40, 20, 30, 10], Recorded, 30, None);
        // It was stored before.
        check([40, 30, 20, 30], Recorded, 30, None);
    }

    #[test]
    fn nothing_is_taken_back_when_the_guard_ends() {
        check([40, 30, 20, 30], Settled, 30, None);
        check([40, 40, 35, 30], Settled, 35, None);
    }

    #[test]
    fn nothing_is_acknowledged_that_was_not_received() {
        check([25, 20, 30, 10], Settled, 25, None);
        check([25, 30, 20, 10], Recorded, 25, Some(25));
        check([5, 30, 20, 10], Recorded, 10, None);
    }
}
