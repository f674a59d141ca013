//! Waiting for conditions.
//!
//! Not here: waiting for a fixed time.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// The interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Checks `condition` every 20 ms until it is `Ok`, and returns its value.
///
/// # Panics
/// `limit` has passed. The message contains the last error of the condition.
#[track_caller]
pub(crate) fn eventually<T>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + limit;
        let mut last = String::from("the condition was never answered");
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match timeout_at(deadline, condition()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(reason)) => last = reason,
                Err(_) => {}
            }
            assert!(
                Instant::now() < deadline,
                "{caller}: not within {limit:?}: {what}; the last reason: {last}"
            );
        }
    }
}
