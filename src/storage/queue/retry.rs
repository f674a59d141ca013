//! How often, and after which wait, a job is tried again whose document was refused.
//!
//! Refused documents use up attempts; failures of the service do not. The arithmetic runs in the
//! database (`walferry.status_after` and `walferry.next_attempt` in `migrations/0010_note.sql`, called
//! by `fail_ids.sql`, `fail_positions.sql` and `fanout_end.sql`), on the row's own count and in the
//! transaction that settles it, so that an attempt is counted exactly once.
//!
//! Not here: why a document is refused (`engine::sink::verdict`), and claiming what is due (`claim`).

use std::time::Duration;

/// The waits double from `delay_min` to `delay_max`, less up to half at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Failed attempts after which a job is `failed`.
    pub attempts_max: u32,
    pub delay_min: Duration,
    pub delay_max: Duration,
}

impl RetryPolicy {
    /// `attempts_max` as the column `retry_count` has it.
    #[must_use]
    pub fn attempts(&self) -> i32 {
        i32::try_from(self.attempts_max).unwrap_or(i32::MAX)
    }
}
