//! The lag of the pipeline in seconds and bytes. Pure; times are seconds since 1970.
//!
//! Every second, the end of the server's WAL is sampled with the time. All transactions that
//! committed before that time are below the sampled position. A sample is *passed* when all
//! changes below it are settled, or when the stream is past it and no received change is
//! unsettled. The lag is the age of the oldest sample that is not passed. If all samples are
//! passed in time, the lag is the time that the last one took, and 0 if no change is unsettled.
//! While the server cannot be sampled, the lag grows from the last sample that was passed.
//!
//! The value is defined when the pipeline is idle, busy, paused or disconnected.
//!
//! Not here: the first load, and jobs that wait for another attempt. They are not part of the lag.

use std::collections::VecDeque;
use std::time::SystemTime;

/// The age in seconds up to which a sample is not late. The next report of progress can be this far
/// away.
const LATE_AFTER: f64 = 2.5;
/// The time in seconds without a sample after which the server counts as disconnected.
const SILENCE_MAX: f64 = 5.0;
/// The number of samples beyond which every other one is dropped.
const SAMPLES_MAX: usize = 4096;

/// The end of the server's WAL at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WalEndSample {
    /// The time in seconds since 1970.
    pub at: f64,
    /// The WAL flush location.
    pub wal_end: u64,
}

/// The progress of the stages, as LSNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageProgress {
    /// The position up to which the stream was received.
    pub received: u64,
    /// The end of the last received transaction with changes of configured tables, earlier runs
    /// included.
    pub committed: u64,
    /// The position up to which all changes are settled.
    pub settled: u64,
}

impl StageProgress {
    /// True if no received change is unsettled.
    fn is_clear(self) -> bool {
        self.settled >= self.committed
    }

    /// True if a sample of `wal_end` is passed.
    fn has_passed(self, wal_end: u64) -> bool {
        self.settled >= wal_end || self.received >= wal_end && self.is_clear()
    }
}

/// The lag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// The age of the oldest commit that may be unsettled.
    pub seconds: f64,
    /// The WAL from the settled position to the last sample.
    pub bytes: u64,
}

/// Computes the lag from samples of the WAL end and from the progress of the stages.
#[derive(Debug)]
pub struct LagMeter {
    /// The samples that are not passed, oldest first.
    open: VecDeque<WalEndSample>,
    /// The time of the last sample that was passed.
    passed_at: Option<f64>,
    /// The seconds from that sample until it was passed.
    delay: f64,
    last: Option<WalEndSample>,
    progress: StageProgress,
    progress_at: f64,
}

impl LagMeter {
    /// A meter without samples.
    #[must_use]
    pub fn new(now: f64) -> Self {
        Self {
            open: VecDeque::new(),
            passed_at: None,
            delay: 0.0,
            last: None,
            progress: StageProgress::default(),
            progress_at: now,
        }
    }

    /// Adds a sample, and the progress of the stages at that time.
    pub fn wal_end_sampled(&mut self, sample: WalEndSample, progress: StageProgress) {
        if self.open.len() >= SAMPLES_MAX {
            let mut number = 0;
            self.open.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        self.open.push_back(sample);
        self.last = Some(sample);
        self.progressed(sample.at, progress);
    }

    /// Sets the progress of the stages.
    pub fn progressed(&mut self, now: f64, progress: StageProgress) {
        if progress.settled > self.progress.settled {
            self.progress_at = now;
        }
        self.progress = progress;
        while let Some(passed) = self.open.pop_front_if(|open| progress.has_passed(open.wal_end)) {
            self.passed_at = Some(passed.at);
            self.delay = (now - passed.at).max(0.0);
        }
        if self.is_caught_up() {
            self.delay = 0.0;
            self.progress_at = now;
        }
    }

    /// Sets the commit time of the oldest unfinished job. It counts until a sample is passed.
    pub fn unfinished_since(&mut self, at: f64) {
        if self.passed_at.is_none()
            && let Some(first) = self.open.front_mut()
        {
            first.at = first.at.min(at);
        }
    }

    /// The time of the last settlement, or the last time at which no change was unsettled.
    #[must_use]
    pub fn progress_at(&self) -> f64 {
        self.progress_at
    }

    /// The current lag; `None` before the first sample.
    #[must_use]
    pub fn lag(&self, now: f64) -> Option<Lag> {
        let last = self.last?;
        let bytes = match self.is_caught_up() {
            true => 0,
            false => last.wal_end.saturating_sub(self.progress.settled),
        };
        let oldest = self.open.front().map(|sample| sample.at);
        let seconds = if now - last.at > SILENCE_MAX {
            now - oldest.or(self.passed_at).unwrap_or(last.at)
        } else {
            match oldest {
                Some(at) if now - at > LATE_AFTER => now - at,
                _ => self.delay,
            }
        };
        Some(Lag { seconds: seconds.max(0.0), bytes })
    }

    fn is_caught_up(&self) -> bool {
        self.last
            .is_some_and(|last| self.progress.received >= last.wal_end && self.progress.is_clear())
    }
}

/// A time in seconds since 1970.
#[must_use]
pub fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(received: u64, committed: u64, settled: u64) -> StageProgress {
        StageProgress { received, committed, settled }
    }

    /// A call of the meter.
    enum Step {
        /// The time, the WAL end, and the progress of the stages at that time.
        Sample(f64, u64, StageProgress),
        Progress(f64, StageProgress),
        Unfinished(f64),
    }
    use Step::{Progress, Sample, Unfinished};

    fn meter(steps: &[Step]) -> LagMeter {
        let mut meter = LagMeter::new(0.0);
        for step in steps {
            match *step {
                Sample(at, wal_end, progress) => {
                    meter.wal_end_sampled(WalEndSample { at, wal_end }, progress);
                }
                Progress(now, progress) => meter.progressed(now, progress),
                Unfinished(at) => meter.unfinished_since(at),
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
    fn the_lag_is_defined_in_every_situation() {
        check("nothing is known", &[], 50.0, None);
        let idle = at(100, 90, 90);
        check("idle", &[Sample(1.0, 100, idle), Sample(2.0, 100, idle)], 2.9, Some((0.0, 0)));
        check(
            "idle for an hour while others write: keepalives pass each sample",
            &[
                Sample(1.0, 100, idle),
                Sample(3601.0, 5000, idle),
                Progress(3601.5, at(5000, 90, 90)),
            ],
            3601.9,
            Some((0.0, 0)),
        );
        check(
            "others write, and the next keepalive is on its way",
            &[Sample(1.0, 100, idle), Sample(2.0, 5000, idle)],
            3.0,
            Some((0.0, 4910)),
        );
        check(
            "busy: what was committed at the sample settled 0.5 s later, and more came",
            &[
                Sample(1.0, 100, at(90, 90, 80)),
                Progress(1.5, at(190, 190, 110)),
                Sample(2.0, 200, at(195, 190, 150)),
            ],
            2.25,
            Some((0.5, 50)),
        );
        check(
            "behind: nothing settled for a minute, samples go on",
            &[Sample(1.0, 100, idle), Sample(2.0, 200, at(200, 190, 90))]
                .into_iter()
                .chain((3..=62_u32).map(|second| Sample(f64::from(second), 300, at(300, 290, 90))))
                .collect::<Vec<_>>(),
            62.5,
            Some((60.5, 210)),
        );
        let paused = at(300, 290, 90);
        check(
            "paused with changes waiting",
            &[Sample(1.0, 100, idle), Sample(2.0, 300, paused), Sample(12.0, 300, paused)],
            12.0,
            Some((10.0, 210)),
        );
        check(
            "paused with nothing to do",
            &[Sample(1.0, 100, idle), Sample(9.0, 100, idle)],
            9.5,
            Some((0.0, 0)),
        );
        check("cut off after being caught up", &[Sample(1.0, 100, idle)], 61.0, Some((60.0, 0)));
        check(
            "cut off while behind",
            &[Sample(1.0, 100, idle), Sample(10.0, 300, paused), Sample(11.0, 300, paused)],
            70.0,
            Some((60.0, 210)),
        );
        check(
            "a large transaction is being decoded: nothing comes, nothing is proved",
            &[Sample(1.0, 100, idle), Sample(2.0, 900, idle), Sample(30.0, 9000, idle)],
            30.5,
            Some((28.5, 8910)),
        );
    }

    #[test]
    fn the_lag_after_a_start_includes_unfinished_jobs() {
        check(
            "started with unfinished jobs of an hour ago",
            &[Sample(4000.0, 100, at(100, 90, 50)), Unfinished(400.0)],
            4000.0,
            Some((3600.0, 50)),
        );
        check(
            "the same, finished",
            &[
                Sample(4000.0, 100, at(100, 90, 50)),
                Unfinished(400.0),
                Progress(4003.0, at(100, 90, 90)),
            ],
            4003.0,
            Some((0.0, 0)),
        );
    }

    #[test]
    fn progress_is_a_settlement_or_the_absence_of_unsettled_changes() {
        let open = at(200, 190, 90);
        assert!(meter(&[Sample(5.0, 200, open), Sample(9.0, 200, open)]).progress_at() < 5.5);
        assert!(
            meter(&[Sample(5.0, 200, open), Progress(7.0, at(200, 190, 100))]).progress_at() > 6.5
        );
        let idle = at(100, 90, 90);
        assert!(meter(&[Sample(5.0, 100, idle), Sample(9.0, 100, idle)]).progress_at() > 8.5);
    }

    #[test]
    fn samples_are_bounded_and_the_oldest_is_kept() {
        let open = at(200, 190, 90);
        let steps: Vec<Step> =
            (1..20_000_u32).map(|second| Sample(f64::from(second), 200, open)).collect();
        let meter = meter(&steps);
        assert!(meter.open.len() <= SAMPLES_MAX);
        assert!(meter.lag(20_000.0).unwrap().seconds > 19_998.0);
    }
}
