//! Whether a snapshot shows everything that the stream has delivered.
//!
//! A commit can be on the stream before a SELECT sees it: while it waits for a synchronous
//! standby it is decoded but still counts as running. So the xids of delivered transactions are
//! kept until one snapshot has shown them all.
//!
//! A job that was restored from another cluster has an xid of that cluster, which no snapshot of this
//! one may ever show. Such an xid is recognised once it is not below the next xid of this cluster.
//! Pure.

use crate::storage::widen_xid;

/// A snapshot as `pg_current_snapshot()` prints it: `xmin:xmax:xip,…`, 64-bit xids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Running at the time, in ascending order. Subtransactions are not listed, and `Begin`
    /// names the top-level transaction, so the two compare.
    running: Vec<u64>,
}

impl Snapshot {
    /// `None` where the text is not a snapshot.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let list = parts.next()?;
        let running = if list.is_empty() {
            Vec::new()
        } else {
            list.split(',').map(|xid| xid.parse().ok()).collect::<Option<Vec<u64>>>()?
        };
        Some(Self { xmin, xmax, running })
    }

    /// All transactions below this had ended.
    #[must_use]
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// No transaction at or above this had started.
    #[must_use]
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Whether the effects of a committed transaction are in the snapshot
    /// (`pg_visible_in_snapshot`).
    #[must_use]
    pub fn shows(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }
}

/// The xid of a delivered transaction, as far as its source has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveredXid {
    /// The low half, as `Begin` of the stream has it: of a transaction of now.
    Stream(u32),
    /// All 64 bits, as a job was recorded with.
    Recorded(u64),
}

/// Transactions delivered and not yet seen in a snapshot.
#[derive(Debug, Default)]
pub struct Delivered {
    xids: Vec<DeliveredXid>,
}

impl Delivered {
    /// Notes a delivered transaction. Cheap for a repeated one.
    pub fn note(&mut self, xid: DeliveredXid) {
        if self.xids.last() != Some(&xid) {
            self.xids.push(xid);
        }
    }

    /// How many are noted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.xids.len()
    }

    /// Whether every noted transaction has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.xids.is_empty()
    }

    /// Forgets what the snapshot shows; true if that was all.
    pub fn all_in(&mut self, snapshot: &Snapshot) -> bool {
        self.xids.retain(|&xid| match xid {
            DeliveredXid::Stream(low) => !snapshot.shows(widen_xid(low, snapshot.xmax)),
            DeliveredXid::Recorded(xid) => !snapshot.shows(xid),
        });
        self.xids.is_empty()
    }

    /// Whether a recorded xid is not below the snapshot's end: it is of a transaction that still
    /// runs, or of another cluster.
    #[must_use]
    pub fn may_be_foreign(&self, snapshot: &Snapshot) -> bool {
        let beyond = |xid: &DeliveredXid| matches!(xid, DeliveredXid::Recorded(xid) if *xid >= snapshot.xmax);
        self.xids.iter().any(beyond)
    }

    /// Forgets recorded xids that this cluster has not assigned: `next` is a later one of its own.
    /// Returns how many were forgotten.
    pub fn forget_foreign(&mut self, next: u64) -> usize {
        let before = self.xids.len();
        self.xids.retain(|&xid| !matches!(xid, DeliveredXid::Recorded(xid) if xid >= next));
        before - self.xids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_had_ended() {
        let snapshot = Snapshot::parse("100:105:100,103").unwrap();
        for (xid, shown) in [(99, true), (100, false), (101, true), (103, false), (104, true)] {
            assert_eq!(snapshot.shows(xid), shown, "{xid}");
        }
        assert!(!snapshot.shows(105));
        assert_eq!(Snapshot::parse("7:7:").unwrap().running, [] as [u64; 0]);
        for text in ["", "1", "1:2", "a:b:", "1:2:x"] {
            assert_eq!(Snapshot::parse(text), None, "{text}");
        }
    }

    #[test]
    fn xids_widen_to_the_nearest_lap() {
        let lap = 1_u64 << 32;
        for (xid, near, full) in [
            (5, 10, 5),
            (10, 5, 10),
            (u32::MAX, lap + 3, lap - 1),
            (3, lap - 1, lap + 3),
            (7, 3 * lap + 9, 3 * lap + 7),
            (u32::MAX, 5, u64::from(u32::MAX)),
        ] {
            assert_eq!(widen_xid(xid, near), full, "{xid} near {near}");
        }
    }

    #[test]
    fn delivered_transactions_wait_until_shown() {
        let mut delivered = Delivered::default();
        delivered.note(DeliveredXid::Stream(100));
        delivered.note(DeliveredXid::Stream(100));
        delivered.note(DeliveredXid::Recorded(101));
        assert_eq!(delivered.len(), 2);
        assert!(!delivered.all_in(&Snapshot::parse("100:102:100").unwrap()));
        assert!(delivered.all_in(&Snapshot::parse("102:102:").unwrap()));
    }

    #[test]
    fn a_recorded_transaction_keeps_all_its_bits() {
        let lap = 1_u64 << 32;
        let now = Snapshot::parse(&format!("{0}:{0}:", 3 * lap + 5)).unwrap();
        for old in [7, lap + (1 << 31) + 9, 3 * lap + 4] {
            let mut delivered = Delivered::default();
            delivered.note(DeliveredXid::Recorded(old));
            assert!(delivered.all_in(&now), "{old}");
        }
    }

    #[test]
    fn a_transaction_of_another_cluster_is_forgotten_and_a_running_one_is_not() {
        let mut delivered = Delivered::default();
        let snapshot = Snapshot::parse("100:102:100").unwrap();
        delivered.note(DeliveredXid::Recorded(103));
        delivered.note(DeliveredXid::Recorded(9_000_000_000));
        delivered.note(DeliveredXid::Stream(104));
        assert!(!delivered.all_in(&snapshot));
        assert!(delivered.may_be_foreign(&snapshot));
        assert_eq!(delivered.forget_foreign(110), 1);
        assert!(!delivered.all_in(&snapshot), "103 and 104 are running");
        assert!(delivered.all_in(&Snapshot::parse("110:110:").unwrap()));
    }
}
