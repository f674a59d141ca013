//! Limits how often the same message is logged.
//!
//! Not here: logging. The caller writes the message.

use std::time::Duration;

use tokio::time::Instant;

/// Decides whether a message is logged: a new message at once, the same message again after
/// [`LogThrottle::INTERVAL`].
#[derive(Debug, Default)]
pub struct LogThrottle {
    last: Option<LoggedMessage>,
    held_back: u32,
}

#[derive(Debug)]
struct LoggedMessage {
    text: String,
    at: Instant,
}

impl LogThrottle {
    /// The time between two log lines with the same message.
    pub const INTERVAL: Duration = Duration::from_secs(60);

    /// Returns the number of messages that were suppressed since the last logged one if `message`
    /// is to be logged; `None` if it is suppressed.
    pub fn admit(&mut self, now: Instant, message: &str) -> Option<u32> {
        let is_repeated = self.last.as_ref().is_some_and(|last| {
            last.text == message && now.saturating_duration_since(last.at) < Self::INTERVAL
        });
        if is_repeated {
            self.held_back = self.held_back.saturating_add(1);
            return None;
        }
        self.last = Some(LoggedMessage { text: message.to_owned(), at: now });
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_message_is_logged_once_a_minute() {
        let mut throttle = LogThrottle::default();
        let now = Instant::now();
        assert_eq!(throttle.admit(now, "a"), Some(0));
        assert_eq!(throttle.admit(now, "a"), None);
        assert_eq!(throttle.admit(now, "b"), Some(1));
        assert_eq!(throttle.admit(now, "b"), None);
        assert_eq!(throttle.admit(now + LogThrottle::INTERVAL, "b"), Some(1));
    }
}
