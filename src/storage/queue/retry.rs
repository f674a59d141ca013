//! How often, and after which wait, a job is tried again whose document was refused.
//!
//! Only what is wrong with the document uses up attempts; trouble with the service never does.
//! The arithmetic runs in the database, on the row's own count and in the transaction that
//! settles it, so that an attempt is counted exactly once.
//!
//! Not here: who refused (`engine::sink::verdict`) and taking up what is due (`claim`).

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

/// The number of the attempt that failed; no hand-edited count overflows.
macro_rules! attempt {
    () => {
        "least(greatest(coalesce(q.retry_count, 0), 0), 1000000) + 1"
    };
}

/// What an attempt that failed makes of a row `q`: `$1` attempts at most, `$2` and `$3` the first
/// and the longest wait in seconds. 20 doublings are a million.
#[rustfmt::skip] // a line per column
pub(in crate::storage) const FAILED_ATTEMPT: &str = concat!("
    status = case when ", attempt!(), " >= $1::int then 'failed' else 'pending' end,
    processed_at = case when ", attempt!(), " >= $1::int then clock_timestamp() end,
    next_attempt_at = case when ", attempt!(), " < $1::int
        then clock_timestamp() + make_interval(secs => (0.5 + random() / 2)
            * least($3::float8, $2::float8 * 2 ^ least(", attempt!(), " - 1, 20))) end,
    retry_count = ", attempt!(), ",
    started_at = null, epoch = null,
    error_message = concat_ws(E'\\n', f.error, substring(q.error_message from '(?n)^note: .*$'))");
