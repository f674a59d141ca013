//! How long the server may send nothing. Pure; the caller supplies the time.
//!
//! Each request of feedback asks for an answer. A server that is busy does not give it, so silence
//! counts only together with what the WAL sender does. The patience doubles while nothing arrives,
//! since what keeps the server busy may take long.

use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::catalog::sender::SenderActivity;

/// A sender that was found waiting may just have sent its answer, which arrives within this time.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// The silence of a stream.
#[derive(Debug)]
pub(crate) struct Silence {
    /// `wal_sender_timeout`.
    limit: Duration,
    /// The time of the server's last message, or of the last resumption of reading.
    since: Instant,
    patience: Duration,
    /// The sender was found waiting, and nothing has arrived since.
    was_waiting: bool,
}

impl Silence {
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, since: now, patience: limit, was_waiting: false }
    }

    /// Something has arrived, or reading resumes.
    pub(crate) fn ended(&mut self, now: Instant) {
        *self = Self::new(self.limit, now);
    }

    /// When the sender's activity must be read.
    pub(crate) fn due_at(&self) -> Instant {
        self.since + self.patience
    }

    /// How long the server has been silent.
    pub(crate) fn length(&self, now: Instant) -> Duration {
        now - self.since
    }

    /// Notes the sender's activity; true if the connection is gone.
    pub(crate) fn is_fatal(&mut self, activity: SenderActivity, now: Instant) -> bool {
        match activity {
            SenderActivity::Gone => true,
            SenderActivity::Waiting if self.was_waiting => true,
            SenderActivity::Waiting => {
                self.was_waiting = true;
                self.patience = self.length(now) + ANSWER_MAX.min(self.limit);
                false
            }
            SenderActivity::Busy => {
                self.was_waiting = false;
                self.patience = self.length(now).saturating_mul(2);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SenderActivity::{Busy, Gone, Waiting};

    /// Seconds since the last message, what the sender does then, and whether that is fatal.
    #[track_caller]
    fn check(looks: &[(u64, SenderActivity, bool)]) {
        let start = Instant::now();
        let mut silence = Silence::new(Duration::from_secs(60), start);
        for (at, activity, is_fatal) in looks {
            let now = start + Duration::from_secs(*at);
            assert_eq!(silence.due_at(), now, "{looks:?}");
            assert_eq!(silence.is_fatal(*activity, now), *is_fatal, "after {at} s: {looks:?}");
        }
    }

    #[test]
    fn a_busy_sender_is_waited_for_ever_longer() {
        check(&[(60, Busy, false), (120, Busy, false), (240, Busy, false), (480, Gone, true)]);
    }

    #[test]
    fn a_sender_that_waits_and_does_not_answer_is_out_of_reach() {
        check(&[(60, Waiting, false), (61, Waiting, true)]);
        check(&[(60, Busy, false), (120, Waiting, false), (121, Busy, false), (242, Gone, true)]);
        check(&[(60, Gone, true)]);
    }

    #[test]
    fn a_message_ends_the_silence() {
        let start = Instant::now();
        let mut silence = Silence::new(Duration::from_secs(60), start);
        assert!(!silence.is_fatal(Busy, start + Duration::from_secs(60)));
        silence.ended(start + Duration::from_secs(70));
        assert_eq!(silence.due_at(), start + Duration::from_secs(130));
    }
}
