//! Waiting for a condition, never for a time.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Looks at `condition` every 20 ms until it is `Ok`, and returns what it returned.
///
/// # Panics
/// When `limit` has passed; the message ends in the condition's last reason.
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
