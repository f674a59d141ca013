//! When to tell the server how far we are, and what. Pure: the caller owns the clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::change::Lsn;

/// Invariant: `durable <= received`. Neither ever moves backward.
#[derive(Debug)]
pub(crate) struct Progress {
    received: Lsn,
    durable: Lsn,
}

impl Progress {
    /// All below `start` counts as received: it is where the stream was asked to begin.
    pub(crate) fn new(start: Lsn) -> Self {
        Self { received: start, durable: Lsn(0) }
    }

    pub(crate) fn received(&self) -> Lsn {
        self.received
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    pub(crate) fn receive(&mut self, lsn: Lsn) {
        self.received = self.received.max(lsn);
    }

    /// Acknowledging too much loses data for good, so this is no debug assertion.
    pub(crate) fn advance_durable(&mut self, lsn: Lsn) {
        assert!(lsn <= self.received, "{lsn} is past {}, the last LSN received", self.received);
        self.durable = self.durable.max(lsn);
    }
}

/// The feedback timer.
#[derive(Debug)]
pub(crate) struct StatusTimer {
    period: Duration,
    sent_at: Instant,
    due_at: Instant,
    /// From when on a feedback asks for a reply: it tells the server's WAL end and that the
    /// server lives.
    ask_at: Instant,
}

impl StatusTimer {
    /// Due at once.
    pub(crate) fn new(period: Duration, now: Instant) -> Self {
        Self { period, sent_at: now, due_at: now, ask_at: now }
    }

    pub(crate) fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Feedback is wanted: at once, unless the last one is younger than `pause`.
    pub(crate) fn within(&mut self, pause: Duration, now: Instant) {
        self.due_at = self.due_at.min(now.max(self.sent_at + pause));
    }

    /// Feedback is being sent; true if it is to ask for a reply.
    pub(crate) fn sent(&mut self, now: Instant) -> bool {
        self.sent_at = now;
        self.due_at = now + self.period;
        let ask = now >= self.ask_at;
        if ask {
            self.ask_at = now + self.period;
        }
        ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_never_move_backward() {
        let mut progress = Progress::new(Lsn(10));
        progress.advance_durable(Lsn(10));
        progress.receive(Lsn(30));
        progress.receive(Lsn(20));
        progress.advance_durable(Lsn(25));
        progress.advance_durable(Lsn(15));
        assert_eq!((progress.received(), progress.durable()), (Lsn(30), Lsn(25)));
    }

    #[test]
    #[should_panic(expected = "0/1F is past 0/1E")]
    fn nothing_is_acknowledged_that_was_not_received() {
        Progress::new(Lsn(30)).advance_durable(Lsn(31));
    }

    #[test]
    fn many_wishes_make_one_feedback() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut schedule = StatusTimer::new(ms(1000), start);
        assert!(schedule.sent(start));
        schedule.within(ms(100), start + ms(10));
        assert_eq!(schedule.due_at(), start + ms(100));
        schedule.within(ms(50), start + ms(20));
        assert_eq!(schedule.due_at(), start + ms(50));
        // A reply is asked for once in a period, however often feedback is sent.
        assert!(!schedule.sent(start + ms(50)));
        assert_eq!(schedule.due_at(), start + ms(1050));
        assert!(schedule.sent(start + ms(1050)));
        schedule.within(ms(100), start + ms(1900));
        assert_eq!(schedule.due_at(), start + ms(1900));
    }
}
