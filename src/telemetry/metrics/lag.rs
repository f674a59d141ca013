//! How far behind: true when idle, busy, paused and cut off. Pure; times are seconds since 1970.
//!
//! Every second the server's WAL end is noted together with the time: whatever committed before
//! that moment lies below it. The note is *passed* once all below it is settled, or once the
//! stream has come past it with nothing of ours left open. The lag is the age of the oldest note
//! not passed; while all are passed in time, it is how long the last one took; and 0 once nothing
//! is open. A server that cannot be asked any more proves nothing: then the lag grows from the
//! last note that was passed.
//!
//! Not here: the first load and jobs waiting for another attempt. Neither is behind the stream.

use std::collections::VecDeque;
use std::time::SystemTime;

/// A note is not late before the next look at it, which may be this far away.
const PATIENCE: f64 = 2.5;
/// Looks further apart than this say that the server is cut off.
const SILENCE_MAX: f64 = 5.0;
/// Notes kept; beyond, every other one is dropped.
const NOTES_MAX: usize = 4096;

/// The server's end of the WAL at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub at: f64,
    pub wal_end: u64,
}

/// How far the stages have come, as LSNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// All below was received.
    pub received: u64,
    /// The end of the last commit with changes of ours that was received, in an earlier run too.
    pub committed: u64,
    /// Everything up to here is settled.
    pub settled: u64,
}

impl Seen {
    /// Nothing of ours that was received is open.
    fn is_clear(self) -> bool {
        self.settled >= self.committed
    }

    fn has_passed(self, wal_end: u64) -> bool {
        self.settled >= wal_end || self.received >= wal_end && self.is_clear()
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    pub seconds: f64,
    pub bytes: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Meter {
    open: VecDeque<Look>,
    /// The last note that was passed.
    passed_at: Option<f64>,
    /// How long it took.
    delay: f64,
    last: Option<Look>,
    seen: Seen,
    progress_at: f64,
}

impl Meter {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: f64) -> Self {
        Self {
            open: VecDeque::new(),
            passed_at: None,
            delay: 0.0,
            last: None,
            seen: Seen::default(),
            progress_at: now,
        }
    }

    /// A look at the server.
    pub fn look(&mut self, look: Look, seen: Seen) {
        if self.open.len() >= NOTES_MAX {
            let mut number = 0;
            self.open.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        self.open.push_back(look);
        self.last = Some(look);
        self.see(look.at, seen);
    }

    /// A look at the stages.
    pub fn see(&mut self, now: f64, seen: Seen) {
        if seen.settled > self.seen.settled {
            self.progress_at = now;
        }
        self.seen = seen;
        while let Some(note) = self.open.front().filter(|note| seen.has_passed(note.wal_end)) {
            self.passed_at = Some(note.at);
            self.delay = (now - note.at).max(0.0);
            self.open.pop_front();
        }
        if self.is_caught_up() {
            self.delay = 0.0;
            self.progress_at = now;
        }
    }

    /// The oldest unfinished job's commit time, known to a process that has not been caught up.
    pub fn unfinished_since(&mut self, at: f64) {
        if self.passed_at.is_none()
            && let Some(first) = self.open.front_mut()
        {
            first.at = first.at.min(at);
        }
    }

    /// When something last settled, or nothing was left to.
    #[must_use]
    pub fn progress_at(&self) -> f64 {
        self.progress_at
    }

    /// The lag now; `None` before the first look.
    #[must_use]
    pub fn lag(&self, now: f64) -> Option<Lag> {
        let last = self.last?;
        let bytes = match self.is_caught_up() {
            true => 0,
            false => last.wal_end.saturating_sub(self.seen.settled),
        };
        let oldest = self.open.front().map(|note| note.at);
        let seconds = if now - last.at > SILENCE_MAX {
            now - oldest.or(self.passed_at).unwrap_or(last.at)
        } else {
            match oldest {
                Some(at) if now - at > PATIENCE => now - at,
                _ => self.delay,
            }
        };
        Some(Lag { seconds: seconds.max(0.0), bytes })
    }

    fn is_caught_up(&self) -> bool {
        self.last.is_some_and(|last| self.seen.received >= last.wal_end && self.seen.is_clear())
    }
}

/// A time as the meter counts it.
#[must_use]
pub fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(received: u64, committed: u64, settled: u64) -> Seen {
        Seen { received, committed, settled }
    }

    /// What happens, in order.
    enum Step {
        /// Time, WAL end, and the stages at that moment.
        Look(f64, u64, Seen),
        See(f64, Seen),
        Unfinished(f64),
    }
    use Step::{Look as L, See as S, Unfinished as U};

    fn meter(steps: &[Step]) -> Meter {
        let mut meter = Meter::new(0.0);
        for step in steps {
            match *step {
                L(at, wal_end, seen) => meter.look(Look { at, wal_end }, seen),
                S(now, seen) => meter.see(now, seen),
                U(at) => meter.unfinished_since(at),
            }
        }
        meter
    }

    #[track_caller]
    fn check(what: &str, steps: &[Step], now: f64, expected: Option<(f64, u64)>) {
        let lag = meter(steps).lag(now);
        let expected = expected.map(|(seconds, bytes)| Lag { seconds, bytes });
        assert_eq!(lag, expected, "{what}");
    }

    #[test]
    fn the_lag_is_true_in_every_situation() {
        check("nothing is known", &[], 50.0, None);
        let idle = seen(100, 90, 90);
        check("idle", &[L(1.0, 100, idle), L(2.0, 100, idle)], 2.9, Some((0.0, 0)));
        check(
            "idle for an hour while others write: keepalives come past each note",
            &[L(1.0, 100, idle), L(3601.0, 5000, idle), S(3601.5, seen(5000, 90, 90))],
            3601.9,
            Some((0.0, 0)),
        );
        check(
            "others write, and the next keepalive is on its way",
            &[L(1.0, 100, idle), L(2.0, 5000, idle)],
            3.0,
            Some((0.0, 4910)),
        );
        check(
            "busy: what was committed at the look settled 0.5 s later, and more came",
            &[
                L(1.0, 100, seen(90, 90, 80)),
                S(1.5, seen(190, 190, 110)),
                L(2.0, 200, seen(195, 190, 150)),
            ],
            2.25,
            Some((0.5, 50)),
        );
        check(
            "behind: nothing settled for a minute, looks go on",
            &[L(1.0, 100, idle), L(2.0, 200, seen(200, 190, 90))]
                .into_iter()
                .chain((3..=62_u32).map(|at| L(f64::from(at), 300, seen(300, 290, 90))))
                .collect::<Vec<_>>(),
            62.5,
            Some((60.5, 210)),
        );
        let paused = seen(300, 290, 90);
        check(
            "paused with changes waiting",
            &[L(1.0, 100, idle), L(2.0, 300, paused), L(12.0, 300, paused)],
            12.0,
            Some((10.0, 210)),
        );
        check(
            "paused with nothing to do",
            &[L(1.0, 100, idle), L(9.0, 100, idle)],
            9.5,
            Some((0.0, 0)),
        );
        check("cut off after being caught up", &[L(1.0, 100, idle)], 61.0, Some((60.0, 0)));
        check(
            "cut off while behind",
            &[L(1.0, 100, idle), L(10.0, 300, paused), L(11.0, 300, paused)],
            70.0,
            Some((60.0, 210)),
        );
        check(
            "a large transaction is being decoded: nothing comes, nothing is proved",
            &[L(1.0, 100, idle), L(2.0, 900, idle), L(30.0, 9000, idle)],
            30.5,
            Some((28.5, 8910)),
        );
    }

    #[test]
    fn a_start_knows_how_long_jobs_have_waited() {
        check(
            "started with unfinished jobs of an hour ago",
            &[L(4000.0, 100, seen(100, 90, 50)), U(400.0)],
            4000.0,
            Some((3600.0, 50)),
        );
        check(
            "the same, finished",
            &[L(4000.0, 100, seen(100, 90, 50)), U(400.0), S(4003.0, seen(100, 90, 90))],
            4003.0,
            Some((0.0, 0)),
        );
    }

    #[test]
    fn progress_is_a_settlement_or_the_proof_that_none_is_owed() {
        let open = seen(200, 190, 90);
        assert!(meter(&[L(5.0, 200, open), L(9.0, 200, open)]).progress_at() < 5.5);
        assert!(meter(&[L(5.0, 200, open), S(7.0, seen(200, 190, 100))]).progress_at() > 6.5);
        let idle = seen(100, 90, 90);
        assert!(meter(&[L(5.0, 100, idle), L(9.0, 100, idle)]).progress_at() > 8.5);
    }

    #[test]
    fn notes_are_bounded_and_the_oldest_stays() {
        let open = seen(200, 190, 90);
        let steps: Vec<Step> = (1..20_000_u32).map(|at| L(f64::from(at), 200, open)).collect();
        let meter = meter(&steps);
        assert!(meter.open.len() <= NOTES_MAX);
        assert!(meter.lag(20_000.0).unwrap().seconds > 19_998.0);
    }
}
