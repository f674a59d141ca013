//! Which of a stream of like sentences are worth a line of the log.

use std::time::Duration;

use tokio::time::Instant;

/// Says which of a stream of sentences are worth a line of the log: a new one at once, the same
/// one again after [`Repeats::EVERY`].
#[derive(Debug, Default)]
pub struct Repeats {
    last: Option<(String, Instant)>,
    held_back: u32,
}

impl Repeats {
    /// Between two lines that say the same.
    pub const EVERY: Duration = Duration::from_secs(60);

    /// Whether to say it now, and how often it was not said since it last was.
    pub fn admit(&mut self, now: Instant, sentence: &str) -> Option<u32> {
        let again = self.last.as_ref().is_some_and(|(said, at)| {
            said == sentence && now.saturating_duration_since(*at) < Self::EVERY
        });
        if again {
            self.held_back = self.held_back.saturating_add(1);
            return None;
        }
        self.last = Some((sentence.to_owned(), now));
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_said_once_a_minute() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        assert_eq!(repeats.admit(now, "a"), Some(0));
        assert_eq!(repeats.admit(now, "a"), None);
        assert_eq!(repeats.admit(now, "b"), Some(1));
        assert_eq!(repeats.admit(now, "b"), None);
        assert_eq!(repeats.admit(now + Repeats::EVERY, "b"), Some(1));
    }
}
