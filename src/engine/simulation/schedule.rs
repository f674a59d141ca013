//! One schedule: which task goes on, what happens outside, and when time passes is drawn from the
//! seed. After a while faults end, and everything must come to its end within a bound of time.

use super::oracle;
use super::outside::Outside;
use super::run::{Run, Task};
use super::source::{ROWS, Subject};

/// Within this time after the last fault everything is done, in milliseconds.
const DONE_WITHIN: u64 = 120_000;
/// A writer that does not stop before the feed is live commits this often, in milliseconds.
const COMMIT_EVERY: u64 = 100;
/// The feed is slower than that writer: it takes this long for a step, in milliseconds.
const FEED_STEP: u64 = 60;
/// Transactions of one schedule before faults end.
const TRANSACTIONS_MAX: usize = 14;

/// What may happen outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Commit,
    WriteElsewhere,
    Crash,
    Stop,
    SwitchIndex,
    Block,
    Refuse,
    Halt,
    Insert,
    Retry,
    Slow,
    Lossy,
    Close,
    Wait,
}

impl Event {
    const ALL: [Self; 14] = [
        Self::Commit,
        Self::WriteElsewhere,
        Self::Crash,
        Self::Stop,
        Self::SwitchIndex,
        Self::Block,
        Self::Refuse,
        Self::Halt,
        Self::Insert,
        Self::Retry,
        Self::Slow,
        Self::Lossy,
        Self::Close,
        Self::Wait,
    ];
}

/// A schedule under way.
pub(super) struct Schedule {
    pub(super) outside: Outside,
    run: Option<Run>,
    starts_at: u64,
    /// Until when each task is held up.
    blocked: [u64; Task::ALL.len()],
    /// What happens in this schedule: commits often, other events at times.
    events: Vec<Event>,
    /// The writer does not stop before the feed is live.
    is_busy: bool,
}

impl Schedule {
    pub(super) fn new(seed: u64, is_traced: bool) -> Self {
        fastrand::seed(seed); // for the jitter of waits
        let mut outside = Outside::new(seed, is_traced);
        let mut events = Vec::from([Event::Commit; 6]);
        for event in Event::ALL {
            if outside.rng.bool() {
                events.push(event);
            }
        }
        let is_busy = outside.unconfirmed_max > 1 << 20 && outside.rng.u8(0..8) == 0;
        let blocked = [0; Task::ALL.len()];
        Self { outside, run: None, starts_at: 0, blocked, events, is_busy }
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// Where a promise is broken.
    pub(super) fn run(&mut self) {
        for _ in 0..self.outside.rng.u32(40..200) {
            if self.outside.rng.u8(0..4) == 0 {
                self.disturb();
            }
            self.turn();
            if self.outside.rng.u8(0..4) == 0 {
                self.outside.now += self.outside.rng.u64(0..40);
            }
        }
        self.end_faults();
        // An index that stays closed holds up no other.
        if self.outside.index.is_blocked {
            self.come_to_the_end();
            self.outside.note(|| "the index opens".to_owned());
            self.outside.index.is_blocked = false;
        }
        self.come_to_the_end();
        oracle::assert_true(&self.outside);
    }

    /// Goes on until everything is done that can be.
    fn come_to_the_end(&mut self) {
        let began = self.outside.now;
        let mut commits_at = began;
        loop {
            let is_live = self.run.as_ref().is_some_and(Run::is_live);
            let unfinished = oracle::unfinished(&self.outside);
            if is_live && unfinished.is_none() {
                return;
            }
            let took = self.outside.now - began;
            assert!(took < DONE_WITHIN, "not done in time: live {is_live}, {unfinished:?}");
            if self.is_busy && !is_live && self.outside.now >= commits_at {
                commits_at = self.outside.now + COMMIT_EVERY;
                self.outside.source.commit(&mut self.outside.rng, &[Subject::Row(0)]);
            }
            self.is_busy &= !is_live;
            self.turn();
        }
    }

    fn end_faults(&mut self) {
        self.outside.note(|| "faults end".to_owned());
        self.outside.index.is_up = true;
        self.outside.index.refuse_none();
        self.outside.is_slow = false;
        self.outside.is_lossy = false;
        self.outside.queue.halted = false;
        self.blocked = [0; Task::ALL.len()];
    }

    /// One step of one task, or time passes until there is one.
    fn turn(&mut self) {
        let Self { outside, run, blocked, .. } = self;
        if !outside.late.is_empty() && outside.execute_late() {
            return;
        }
        let Some(running) = run else {
            if outside.now < self.starts_at {
                outside.now = self.starts_at;
            }
            *run = Some(Run::new(outside));
            return;
        };
        let first = outside.rng.usize(0..Task::ALL.len());
        for number in 0..Task::ALL.len() {
            let at = (first + number) % Task::ALL.len();
            if blocked[at] <= outside.now && running.step(Task::ALL[at], outside) {
                if self.is_busy && Task::ALL[at] == Task::Feed {
                    blocked[at] = outside.now + FEED_STEP;
                }
                return;
            }
        }
        if running.has_ended() {
            outside.note(|| "the run has ended".to_owned());
            *run = None;
            return;
        }
        if outside.queue.retry_failed() > 0 {
            running.wake();
            return;
        }
        let late = outside.late.iter().map(|late| late.due_at);
        let now = outside.now;
        let others = blocked.iter().copied().chain(late).filter(|at| *at > now).min();
        let due = running.next_due(now, outside);
        outside.now = others.map_or(due, |other| other.min(due));
    }

    fn disturb(&mut self) {
        let event = self.events[self.outside.rng.usize(0..self.events.len())];
        let outside = &mut self.outside;
        if event != Event::Commit {
            outside.note(|| format!("event: {event:?}"));
        }
        match event {
            Event::Commit => commit(outside),
            Event::WriteElsewhere => outside.source.write_elsewhere(8 * outside.rng.u64(1..60)),
            Event::Crash => {
                self.starts_at = outside.now + outside.rng.u64(0..3000);
                self.run.take().into_iter().for_each(|run| run.crash(outside));
            }
            Event::Stop => self.run.iter().for_each(Run::stop),
            Event::SwitchIndex => outside.index.is_up = !outside.index.is_up,
            Event::Block => {
                let task = outside.rng.usize(0..self.blocked.len());
                self.blocked[task] = outside.now + outside.rng.u64(100..20_000);
                let until = self.blocked[task];
                outside.note(|| format!("{:?} is held up until {until}", Task::ALL[task]));
            }
            Event::Refuse => {
                let row = outside.rng.usize(0..ROWS);
                outside.index.refuse(row, outside.rng.u32(1..5));
            }
            Event::Halt => outside.queue.halted = !outside.queue.halted,
            Event::Insert => {
                let row = outside.rng.usize(0..=ROWS);
                let subject = if row < ROWS { Subject::Row(row) } else { Subject::Parent };
                outside.queue.insert_external(subject, outside.now);
            }
            Event::Retry => {
                if outside.queue.retry_failed() > 0 {
                    self.run.iter().for_each(Run::wake);
                }
            }
            Event::Slow => outside.is_slow = !outside.is_slow,
            Event::Lossy => outside.is_lossy = !outside.is_lossy,
            Event::Close => outside.index.is_blocked = !outside.index.is_blocked,
            Event::Wait => outside.now += outside.rng.u64(500..12_000),
        }
    }
}

/// Commits a transaction of a few changes.
fn commit(outside: &mut Outside) {
    if outside.source.transactions.len() >= TRANSACTIONS_MAX {
        return;
    }
    let count = outside.rng.usize(1..=3);
    let mut subjects = Vec::with_capacity(count);
    for _ in 0..count {
        subjects.push(match outside.rng.u8(0..16) {
            0..=11 => Subject::Row(outside.rng.usize(0..ROWS)),
            12..=14 => Subject::Parent,
            _ => Subject::Table,
        });
    }
    let Outside { source, rng, .. } = outside;
    source.commit(rng, &subjects);
    let end = source.insert_lsn;
    outside.note(|| format!("commit up to {end}: {subjects:?}"));
}
