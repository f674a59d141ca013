//! Whether so much WAL is unconfirmed that recorded changes must be acknowledged before they are
//! settled. Pure.
//!
//! The guard goes by the WAL after the slot's confirmed position, which an acknowledgement moves.
//! What the slot retains in addition is held by open transactions of others: no acknowledgement
//! releases it, and a guard that went by it would stay on for as long as they do.

/// The lowest limit, as in the configuration.
const LIMIT_MIN: u64 = 16 << 20;

/// The retention guard: on once more WAL is unconfirmed than allowed, off again below half of
/// that, so that it does not toggle.
#[derive(Clone, Copy, Debug)]
pub struct RetentionGuard {
    unconfirmed_bytes_max: u64,
    on: bool,
}

impl RetentionGuard {
    /// A guard that is off, for this limit.
    #[must_use]
    pub fn new(unconfirmed_bytes_max: u64) -> Self {
        Self { unconfirmed_bytes_max, on: false }
    }

    /// Notes how much WAL is unconfirmed now; returns whether the guard is on.
    pub fn observe(&mut self, unconfirmed_bytes: u64) -> bool {
        self.on = if self.on {
            unconfirmed_bytes > self.unconfirmed_bytes_max / 2
        } else {
            unconfirmed_bytes > self.unconfirmed_bytes_max
        };
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

    #[test]
    fn the_guard_has_hysteresis() {
        let mut guard = RetentionGuard::new(100);
        for (unconfirmed, on) in [(100, false), (101, true), (60, true), (50, false), (90, false)] {
            assert_eq!(guard.observe(unconfirmed), on, "{unconfirmed}");
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
        assert!(!RetentionGuard::new(default_limit(0)).observe(1 << 20));
    }
}
