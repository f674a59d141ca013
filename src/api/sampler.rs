//! The queue's figures for everybody who asks: read once a second at most, however many ask.
//!
//! It also remembers when something was last finished, which is what health is told from; so it
//! looks every few seconds even if nobody asks.
//!
//! Not here: what the figures mean (`health`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::pool::{Pool, PoolError, in_time};
use crate::change::Lsn;
use crate::queue::sample::{self, Sample};

/// Figures are this old at most.
const AGE_MAX: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Figures, and what was seen of their movement.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) sample: Arc<Sample>,
    /// How long nothing has been finished while there was something to finish.
    pub(crate) stalled: Duration,
    /// Jobs finished a second, between the last two looks.
    pub(crate) rate: f64,
}

/// See the module's documentation.
pub(crate) struct Sampler {
    pool: Pool,
    slot: Arc<str>,
    /// Locked while asking, so that one request asks for all.
    last: tokio::sync::Mutex<Option<Look>>,
    progress: Mutex<Option<Progress>>,
}

/// When, and what was told.
type Look = (Instant, Result<Figures, Arc<PoolError>>);

#[derive(Clone, Copy, Debug)]
struct Progress {
    settled: Lsn,
    finished: i64,
    looked: Instant,
    moved: Instant,
    rate: f64,
}

impl Sampler {
    pub(crate) fn new(pool: Pool, slot: Arc<str>) -> Self {
        let last = tokio::sync::Mutex::default();
        Self { pool, slot, last, progress: Mutex::default() }
    }

    /// Figures of now, or of the last second.
    ///
    /// # Errors
    ///
    /// Why PostgreSQL does not tell; that is remembered for a second as well.
    pub(crate) async fn figures(&self) -> Result<Figures, Arc<PoolError>> {
        let mut last = self.last.lock().await;
        if let Some((_, known)) = last.as_ref().filter(|(at, _)| at.elapsed() < AGE_MAX) {
            return known.clone();
        }
        let read = in_time(self.read()).await;
        let figures = read.map(|sample| self.note(sample)).map_err(Arc::new);
        *last = Some((Instant::now(), figures.clone()));
        figures
    }

    async fn read(&self) -> Result<Sample, PoolError> {
        let lent = self.pool.lend().await?;
        let sample = sample::read(&lent, &self.slot).await?;
        lent.give_back();
        Ok(sample)
    }

    fn note(&self, sample: Sample) -> Figures {
        let now = Instant::now();
        // Nothing panics while the lock is held.
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let next = after(*progress, &sample, now);
        *progress = Some(next);
        Figures { sample: Arc::new(sample), stalled: now - next.moved, rate: next.rate }
    }

    /// What was read is no longer true: an operation has changed it.
    pub(crate) async fn forget(&self) {
        *self.last.lock().await = None;
    }

    /// Looks every few seconds, for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            drop(self.figures().await);
        }
    }
}

/// Something has moved if more is settled, another number of jobs is finished, or nothing waits.
fn after(known: Option<Progress>, sample: &Sample, now: Instant) -> Progress {
    let counts = &sample.counts;
    let (finished, settled) = (counts.completed + counts.failed, sample.settled);
    let Some(known) = known else {
        return Progress { settled, finished, looked: now, moved: now, rate: 0.0 };
    };
    let idle = counts.pending + counts.processing == 0 || !sample.indexing;
    let has_moved = settled != known.settled || finished != known.finished || idle;
    let seconds = (now - known.looked).as_secs_f64();
    // `clear` takes finished jobs away; nothing is finished backwards.
    let jobs = u32::try_from((finished - known.finished).max(0)).unwrap_or(u32::MAX);
    let rate = if seconds > 0.0 { f64::from(jobs) / seconds } else { 0.0 };
    let moved = if has_moved { now } else { known.moved };
    Progress { settled, finished, looked: now, moved, rate }
}
