//! Whether so much WAL is unconfirmed that recorded changes must be acknowledged before they are
//! settled. Pure.
//!
//! The guard goes by the WAL after the slot's confirmed position, which an acknowledgement moves.
//! What the slot retains in addition is mostly held by open transactions of others: no
//! acknowledgement releases it, and a guard that went by it alone would stay on for as long as they
//! do. But the server limits what the slot retains, and its restart position follows the confirmed
//! one by a step: an acknowledgement moves it to the record of running transactions before the first
//! one that the previous acknowledgement did not cover. After one leap of the confirmed position
//! nothing is unconfirmed, and as much as the leap is still retained. So in an outage, while more is
//! retained than allowed, a small part of the limit is enough to acknowledge again. It is an outage if
//! more than the limit is not settled: where only others hold the WAL, settlement follows its end.

/// The lowest limit, as in the configuration.
const LIMIT_MIN: u64 = 16 << 20;

/// In an outage, while more WAL is retained than allowed, this part of the limit may be unconfirmed.
const PART_WHILE_RETAINED: u64 = 8;

/// The WAL that a slot holds.
#[derive(Clone, Copy, Debug)]
pub struct HeldWal {
    /// Bytes after the confirmed position.
    pub unconfirmed: u64,
    /// Bytes after the restart position, which is not after the confirmed one.
    pub retained: u64,
    /// Bytes after the settled position.
    pub unsettled: u64,
}

/// The retention guard: on once more WAL is unconfirmed than allowed, off again below half of
/// that, so that it does not toggle.
#[derive(Clone, Copy, Debug)]
pub struct RetentionGuard {
    bytes_max: u64,
    on: bool,
}

impl RetentionGuard {
    /// A guard that is off, for this limit.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, on: false }
    }

    /// Notes how much WAL is held now; returns whether the guard is on.
    pub fn observe(&mut self, held: HeldWal) -> bool {
        let is_outage = held.unsettled > self.bytes_max;
        let unconfirmed_max = if is_outage && held.retained > self.bytes_max {
            self.bytes_max / PART_WHILE_RETAINED
        } else {
            self.bytes_max
        };
        let limit = if self.on { unconfirmed_max / 2 } else { unconfirmed_max };
        self.on = held.unconfirmed > limit;
        self.on
    }

    /// Whether more WAL is unconfirmed than allowed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }
}

/// The limit where the configuration has none: half of `max_slot_wal_keep_size` (in MiB, -1 for
/// unlimited) but at least 16 MiB, or 4 GiB.
#[must_use]
pub fn default_limit(max_slot_wal_keep_mib: i64) -> u64 {
    match u64::try_from(max_slot_wal_keep_mib) {
        Ok(mib) => mib.saturating_mul(1 << 19).max(LIMIT_MIN),
        Err(_) => 4 << 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(guard: &mut RetentionGuard, unconfirmed: u64, retained: u64) -> bool {
        guard.observe(HeldWal { unconfirmed, retained, unsettled: retained })
    }

    #[test]
    fn the_guard_has_hysteresis() {
        let mut guard = RetentionGuard::new(100);
        for (unconfirmed, on) in [(100, false), (101, true), (60, true), (50, false), (90, false)] {
            assert_eq!(observe(&mut guard, unconfirmed, 100), on, "{unconfirmed}");
        }
        for (unconfirmed, on) in [(12, false), (13, true), (7, true), (6, false), (0, false)] {
            assert_eq!(observe(&mut guard, unconfirmed, 101), on, "{unconfirmed} while retained");
        }
    }

    #[test]
    fn wal_that_others_hold_switches_no_guard_on() {
        let mut guard = RetentionGuard::new(100);
        assert!(!observe(&mut guard, 0, u64::MAX));
        assert!(!observe(&mut guard, 12, u64::MAX));
        // The stream follows, by jumps.
        for behind in [13, 90, 100, 0] {
            let held = HeldWal { unconfirmed: behind, retained: u64::MAX, unsettled: behind };
            assert!(!guard.observe(held), "{behind}");
        }
    }

    /// A slot as the server keeps it. One candidate at a time becomes its restart position.
    #[derive(Default)]
    struct Slot {
        wal_end: u64,
        confirmed: u64,
        restart: u64,
        /// The last record of running transactions.
        running: u64,
        /// Confirmed up to the first, the slot restarts at the second.
        candidate: Option<(u64, u64)>,
    }

    impl Slot {
        fn record_running(&mut self) {
            self.candidate.get_or_insert((self.wal_end, self.running));
            self.running = self.wal_end;
        }

        fn confirm(&mut self) {
            self.confirmed = self.wal_end;
            if let Some((_, restart)) = self.candidate.take_if(|(at, _)| *at <= self.confirmed) {
                self.restart = restart;
            }
        }

        fn held(&self) -> HeldWal {
            HeldWal {
                unconfirmed: self.wal_end - self.confirmed,
                retained: self.wal_end - self.restart,
                // Nothing settles.
                unsettled: self.wal_end,
            }
        }
    }

    #[test]
    fn an_outage_of_any_length_stays_below_the_limit_of_the_server() {
        // The server writes a record of running transactions every 15 s, and at checkpoints.
        for seconds_between_records in [1, 4, 15] {
            let mut guard = RetentionGuard::new(default_limit(64));
            let mut slot = Slot::default();
            let mut most = 0;
            for second in 1..1000 {
                slot.wal_end += 1 << 20;
                if second % seconds_between_records == 0 {
                    slot.record_running();
                }
                most = most.max(slot.held().retained);
                if guard.observe(slot.held()) {
                    slot.confirm();
                }
            }
            assert!(most <= 48 << 20, "{most} bytes, a record every {seconds_between_records} s");
        }
    }

    #[test]
    fn the_limit_follows_the_server() {
        assert_eq!(default_limit(-1), 4 << 30);
        assert_eq!(default_limit(64), 32 << 20);
    }

    #[test]
    fn a_server_that_keeps_nothing_does_not_switch_the_guard_on_for_ever() {
        for mib in [0, 1, 31] {
            assert_eq!(default_limit(mib), 16 << 20, "{mib}");
        }
        assert!(!observe(&mut RetentionGuard::new(default_limit(0)), 1 << 20, 1 << 20));
    }
}
