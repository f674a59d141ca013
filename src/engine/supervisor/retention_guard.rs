//! Whether the slot retains so much WAL that recorded changes must be acknowledged before they are
//! settled. Pure.

/// The retention guard: on once the slot retains more WAL than allowed, off again below half of
/// that, so that it does not toggle.
#[derive(Clone, Copy, Debug)]
pub struct RetentionGuard {
    retained_bytes_max: u64,
    on: bool,
}

impl RetentionGuard {
    /// A guard that is off, for this limit.
    #[must_use]
    pub fn new(retained_bytes_max: u64) -> Self {
        Self { retained_bytes_max, on: false }
    }

    /// Notes what the slot retains now; returns whether the guard is on.
    pub fn observe(&mut self, retained_bytes: u64) -> bool {
        self.on = if self.on {
            retained_bytes > self.retained_bytes_max / 2
        } else {
            retained_bytes > self.retained_bytes_max
        };
        self.on
    }

    /// Whether more WAL is retained than allowed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }
}

/// The limit where the configuration has none: half of `max_slot_wal_keep_size` (in MiB, -1 for
/// unlimited), or 4 GiB.
#[must_use]
pub fn default_limit(max_slot_wal_keep_mib: i64) -> u64 {
    match u64::try_from(max_slot_wal_keep_mib) {
        Ok(mib) => (mib << 20) / 2,
        Err(_) => 4 << 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_has_hysteresis() {
        let mut guard = RetentionGuard::new(100);
        for (retained, on) in [(100, false), (101, true), (60, true), (50, false), (90, false)] {
            assert_eq!(guard.observe(retained), on, "{retained}");
        }
    }

    #[test]
    fn the_limit_follows_the_server() {
        assert_eq!(default_limit(-1), 4 << 30);
        assert_eq!(default_limit(64), 32 << 20);
    }
}
