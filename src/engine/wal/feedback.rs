//! The positions that feedback reports, and the timer of feedback. Pure; the caller supplies the
//! time.

use std::time::Duration;

use tokio::time::Instant;

use crate::change::Lsn;

/// The received and the durable position. Invariant: `durable <= received`, and neither moves
/// backward.
#[derive(Debug)]
pub(crate) struct StreamProgress {
    received: Lsn,
    durable: Lsn,
}

impl StreamProgress {
    /// WAL below `start`, the requested start of the stream, counts as received.
    pub(crate) fn new(start: Lsn) -> Self {
        Self { received: start, durable: Lsn(0) }
    }

    /// The end of the WAL received.
    pub(crate) fn received(&self) -> Lsn {
        self.received
    }

    /// The end of the WAL that is acknowledged.
    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    /// Raises the end of the WAL received.
    pub(crate) fn receive(&mut self, lsn: Lsn) {
        self.received = self.received.max(lsn);
    }

    /// Acknowledging too much loses data permanently, so release builds check this too.
    pub(crate) fn advance_durable(&mut self, lsn: Lsn) {
        assert!(lsn <= self.received, "{lsn} is past {}, the last LSN received", self.received);
        self.durable = self.durable.max(lsn);
    }
}

/// The timer of standby status updates.
#[derive(Debug)]
pub(crate) struct StatusTimer {
    period: Duration,
    sent_at: Instant,
    due_at: Instant,
    /// From this time on feedback requests a reply, which has the server's WAL end and shows that
    /// the server is alive.
    reply_at: Instant,
}

impl StatusTimer {
    /// A timer that is due at once.
    pub(crate) fn new(period: Duration, now: Instant) -> Self {
        Self { period, sent_at: now, due_at: now, reply_at: now }
    }

    /// When the next status update is due.
    pub(crate) fn due_at(&self) -> Instant {
        self.due_at
    }

    /// Makes feedback due at once, but not within `pause` after the last one.
    pub(crate) fn within(&mut self, pause: Duration, now: Instant) {
        self.due_at = self.due_at.min(now.max(self.sent_at + pause));
    }

    /// Records that feedback is sent; true if it requests a reply.
    pub(crate) fn sent(&mut self, now: Instant) -> bool {
        self.sent_at = now;
        self.due_at = now + self.period;
        let request_reply = now >= self.reply_at;
        if request_reply {
            self.reply_at = now + self.period;
        }
        request_reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_never_move_backward() {
        let mut progress = StreamProgress::new(Lsn(10));
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
        StreamProgress::new(Lsn(30)).advance_durable(Lsn(31));
    }

    #[test]
    fn many_requests_make_one_feedback() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut timer = StatusTimer::new(ms(1000), start);
        assert!(timer.sent(start));
        timer.within(ms(100), start + ms(10));
        assert_eq!(timer.due_at(), start + ms(100));
        timer.within(ms(50), start + ms(20));
        assert_eq!(timer.due_at(), start + ms(50));
        // A reply is requested once in a period, however often feedback is sent.
        assert!(!timer.sent(start + ms(50)));
        assert_eq!(timer.due_at(), start + ms(1050));
        assert!(timer.sent(start + ms(1050)));
        timer.within(ms(100), start + ms(1900));
        assert_eq!(timer.due_at(), start + ms(1900));
    }
}
