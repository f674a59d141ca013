//! The queue's figures for everybody who asks.
//!
//! Who asks now is told what was read since: whatever was committed before is in it. Many who ask at
//! once share a look, and looks keep apart, so that any number of them costs PostgreSQL little.
//!
//! It also remembers when something was last finished, which is what health is told from, and tells
//! the metrics; so it looks every few seconds even if nobody asks. Its session is its own: whoever
//! fills the pool makes no figure old.
//!
//! Not here: the queries (`admin::figures::sample`), and what the figures mean (`health`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::admin::figures::sample;
use crate::admin::figures::sample::Sample;
use crate::admin::pool::{PoolError, in_time};
use crate::change::Lsn;
use crate::config::Database;
use crate::postgres::error::sentence;
use crate::postgres::{Session, connect};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::lag::seconds;
use crate::telemetry::readiness::{Component, ReadinessReporter};
use crate::telemetry::throttle::LogThrottle;

/// Between the beginnings of two looks.
const APART: Duration = Duration::from_millis(20);
/// The same while PostgreSQL does not tell.
const APART_FAILED: Duration = Duration::from_millis(200);
/// Figures of this age are as good as new to who asks again and again.
const RECENT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A figure is not worth more of the server's time than this.
const SETTINGS: &str = "set statement_timeout = '2s'; set lock_timeout = '500ms'";

/// Figures, and what was seen of their movement.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) sample: Arc<Sample>,
    /// How long nothing has been finished while there was something to finish.
    pub(crate) stalled: Duration,
    /// Jobs finished a second, over the last second or more.
    pub(crate) rate: f64,
}

/// See the module's documentation.
pub(crate) struct Sampler {
    database: Database,
    slot: Arc<str>,
    status: ReadinessReporter,
    metrics: Metrics,
    /// Locked while asking, so that one request asks for all.
    looks: tokio::sync::Mutex<Looks>,
    progress: Mutex<Option<Progress>>,
}

#[derive(Default)]
struct Looks {
    session: Option<Session>,
    last: Option<Look>,
    repeats: LogThrottle,
}

/// When it began and ended, and what was told.
struct Look {
    began: Instant,
    ended: Instant,
    told: Result<Figures, Arc<PoolError>>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    settled: Lsn,
    finished: i64,
    looked: Instant,
    moved: Instant,
    rate: f64,
}

impl Sampler {
    /// Connects to nothing yet.
    pub(crate) fn new(
        database: Database,
        slot: Arc<str>,
        status: ReadinessReporter,
        metrics: Metrics,
    ) -> Self {
        let (looks, progress) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { database, slot, status, metrics, looks, progress }
    }

    /// Figures that were read after this was called.
    ///
    /// # Errors
    ///
    /// Why PostgreSQL does not tell.
    pub(crate) async fn now(&self) -> Result<Figures, Arc<PoolError>> {
        self.since(Instant::now()).await
    }

    /// Figures of now, or of the last second.
    ///
    /// # Errors
    ///
    /// As [`Self::now`].
    pub(crate) async fn recent(&self) -> Result<Figures, Arc<PoolError>> {
        let now = Instant::now();
        self.since(now.checked_sub(RECENT).unwrap_or(now)).await
    }

    async fn since(&self, moment: Instant) -> Result<Figures, Arc<PoolError>> {
        let mut looks = self.looks.lock().await;
        if let Some(Look { began, ended, told }) = &looks.last {
            // Whoever has waited for a look that failed has waited enough.
            let (good_since, apart) =
                if told.is_ok() { (*began, APART) } else { (*ended, APART_FAILED) };
            if good_since >= moment {
                return told.clone();
            }
            // Whoever comes meanwhile shares the next look.
            sleep_until(good_since + apart).await;
        }
        let began = Instant::now();
        let session = looks.session.take().filter(|session| !session.closed.is_closed());
        let read = in_time(self.read(session)).await;
        self.tell(read.as_ref().map(|(sample, _)| sample), &mut looks.repeats);
        let figures = read.map_err(Arc::new).map(|(sample, session)| {
            looks.session = Some(session);
            self.note(sample)
        });
        looks.last = Some(Look { began, ended: Instant::now(), told: figures.clone() });
        figures
    }

    /// A session is closed when a query in it failed or was dropped half-way.
    async fn read(&self, session: Option<Session>) -> Result<(Sample, Session), PoolError> {
        let session = match session {
            Some(session) => session,
            None => {
                let session = connect(&self.database, "walferry figures").await?;
                session.client.batch_execute(SETTINGS).await?;
                session
            }
        };
        Ok((sample::read(&session.client, &self.slot).await?, session))
    }

    /// Tells the metrics, unless the figures are another instance's to tell, or there is no queue
    /// to be read.
    fn tell(&self, read: Result<&Sample, &PoolError>, repeats: &mut LogThrottle) {
        let readiness = self.status.now();
        if readiness.is_standby() {
            // `stands_by` may have come between a look and its telling.
            return self.metrics.queue.forget();
        }
        if !readiness.is_ok(Component::Database) {
            return;
        }
        match read {
            Ok(sample) => {
                let now = seconds(SystemTime::now());
                self.metrics.queue.set(&sample.figures(), now);
                if let Some(oldest) = &sample.oldest_unfinished {
                    self.metrics.pipeline.unfinished_since(now - oldest.age_seconds);
                }
            }
            Err(error) => {
                self.metrics.queue.sample_failed();
                let error = sentence(error);
                if let Some(held_back) = repeats.admit(Instant::now(), &error) {
                    tracing::warn!(
                        held_back,
                        event = "queue_sample_failed",
                        error,
                        "the queue's figures were not read; trying again"
                    );
                }
            }
        }
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
        self.looks.lock().await.last = None;
    }

    /// Looks every few seconds, for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            drop(self.recent().await);
            self.look_at_spills().await;
        }
    }

    /// A figure for the metrics alone: its failure costs nothing else.
    async fn look_at_spills(&self) {
        let readiness = self.status.now();
        if readiness.is_standby() || !readiness.is_ok(Component::Database) {
            return;
        }
        let mut looks = self.looks.lock().await;
        let Some(session) = looks.session.take() else { return };
        match in_time(async { Ok(sample::spilled(&session.client, &self.slot).await) }).await {
            Ok(Ok(found)) => {
                if let Some((bytes, transactions)) = found {
                    self.metrics.slot.spilled(bytes, transactions);
                }
            }
            Ok(Err(error)) if error.as_db_error().is_some() => self.metrics.slot.inspect_failed(),
            // The session is of no use any more.
            Ok(Err(_)) | Err(_) => return,
        }
        looks.session = Some(session);
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
    let moved = if has_moved { now } else { known.moved };
    if now - known.looked < RECENT {
        return Progress { moved, ..known };
    }
    let seconds = (now - known.looked).as_secs_f64();
    // `clear` takes finished jobs away; nothing is finished backwards.
    let jobs = u32::try_from((finished - known.finished).max(0)).unwrap_or(u32::MAX);
    let rate = f64::from(jobs) / seconds;
    Progress { settled, finished, looked: now, moved, rate }
}
