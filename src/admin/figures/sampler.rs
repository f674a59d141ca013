//! The queue's figures for every client.
//!
//! A request gets figures that were read after it came: all that was committed before is in them.
//! Requests that come together share one reading, and readings keep a distance, so that any number of
//! requests costs PostgreSQL little.
//!
//! The sampler also keeps the time at which jobs were last finished, which health is judged by, and
//! sets the metrics. So it reads every few seconds without any request. Its session is its own: a
//! pool that is full makes no figure old.
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
use crate::storage::operation::{OperationKind, STATES};
use crate::storage::sql::count;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::lag::seconds;
use crate::telemetry::metrics::operation::RunningOperation;
use crate::telemetry::readiness::{Component, ReadinessReporter};
use crate::telemetry::throttle::LogThrottle;

/// Between the beginnings of two readings.
const DISTANCE: Duration = Duration::from_millis(20);
/// The same while PostgreSQL does not answer.
const DISTANCE_FAILED: Duration = Duration::from_millis(200);
/// Figures of this age are recent enough for a client that asks again and again.
const RECENT: Duration = Duration::from_secs(1);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// The figures may take this much of the server's time.
const SETTINGS: &str = "set statement_timeout = '2s'; set lock_timeout = '500ms'";

/// Figures, and how they have changed.
#[derive(Clone, Debug)]
pub(crate) struct SampledFigures {
    pub(crate) sample: Arc<Sample>,
    /// How long nothing has been finished while there was something to finish.
    pub(crate) stalled: Duration,
    /// Jobs finished a second, over the last second or more.
    pub(crate) rate: f64,
}

/// Reads the queue's figures.
pub(crate) struct Sampler {
    database: Database,
    slot: Arc<str>,
    status: ReadinessReporter,
    metrics: Metrics,
    /// Locked during a reading, so that requests share it.
    readings: tokio::sync::Mutex<Readings>,
    progress: Mutex<Option<QueueProgress>>,
}

#[derive(Default)]
struct Readings {
    session: Option<Session>,
    last: Option<Reading>,
    repeats: LogThrottle,
}

/// One reading of the figures.
struct Reading {
    began: Instant,
    ended: Instant,
    result: Result<SampledFigures, Arc<PoolError>>,
}

#[derive(Clone, Copy, Debug)]
struct QueueProgress {
    settled: Lsn,
    finished: i64,
    /// When the rate was last computed.
    computed_at: Instant,
    /// When jobs were last finished, or none waited.
    moved_at: Instant,
    rate: f64,
}

impl Reading {
    /// Requests up to this moment are answered by it. A request that has waited for a reading that
    /// failed does not wait for another one.
    fn good_since(&self) -> Instant {
        if self.result.is_ok() { self.began } else { self.ended }
    }

    fn distance(&self) -> Duration {
        if self.result.is_ok() { DISTANCE } else { DISTANCE_FAILED }
    }
}

impl Sampler {
    /// Connects to nothing yet.
    pub(crate) fn new(
        database: Database,
        slot: Arc<str>,
        status: ReadinessReporter,
        metrics: Metrics,
    ) -> Self {
        let readings = tokio::sync::Mutex::default();
        let progress = Mutex::default();
        Self { database, slot, status, metrics, readings, progress }
    }

    /// Figures that were read after this was called.
    ///
    /// # Errors
    ///
    /// Why PostgreSQL does not answer.
    pub(crate) async fn now(&self) -> Result<SampledFigures, Arc<PoolError>> {
        self.since(Instant::now()).await
    }

    /// Figures of now, or of the last second.
    ///
    /// # Errors
    ///
    /// As [`Self::now`].
    pub(crate) async fn recent(&self) -> Result<SampledFigures, Arc<PoolError>> {
        let now = Instant::now();
        self.since(now.checked_sub(RECENT).unwrap_or(now)).await
    }

    /// Figures that were read after `moment`.
    async fn since(&self, moment: Instant) -> Result<SampledFigures, Arc<PoolError>> {
        let mut readings = self.readings.lock().await;
        if let Some(last) = &readings.last {
            if last.good_since() >= moment {
                return last.result.clone();
            }
            // Requests that come meanwhile share the next reading.
            sleep_until(last.good_since() + last.distance()).await;
        }
        let began = Instant::now();
        let session = readings.session.take().filter(|session| !session.closed.is_closed());
        let read = in_time(self.read(session)).await;
        self.set_metrics(read.as_ref().map(|(sample, _)| sample), &mut readings.repeats);
        let result = read.map_err(Arc::new).map(|(sample, session)| {
            readings.session = Some(session);
            self.note(sample)
        });
        readings.last = Some(Reading { began, ended: Instant::now(), result: result.clone() });
        result
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

    /// Sets the metrics, unless another instance runs the queue or the queue cannot be read.
    fn set_metrics(&self, read: Result<&Sample, &PoolError>, repeats: &mut LogThrottle) {
        let readiness = self.status.now();
        if readiness.is_standby() {
            // The instance may have become a standby during the reading.
            self.metrics.operation.forget();
            return self.metrics.queue.forget();
        }
        if !readiness.is_ok(Component::Database) {
            return;
        }
        match read {
            Ok(sample) => {
                let now = seconds(SystemTime::now());
                self.metrics.queue.set(&sample.figures(), now);
                let awaited = sample.awaited.iter().map(|index| (&*index.name, count(index.jobs)));
                self.metrics.queue.set_parked(awaited);
                self.set_operations(sample);
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

    fn set_operations(&self, sample: &Sample) {
        let metrics = &self.metrics.operation;
        let kinds = OperationKind::ALL.map(OperationKind::as_str);
        for kind in kinds {
            for state in STATES {
                let key = (kind.to_owned(), state.to_owned());
                let number = sample.operation_figures.counts.get(&key).copied();
                metrics.set_count(kind, state, number.unwrap_or_default());
            }
        }
        let running = sample.operations.iter().find(|row| row.state == "running");
        let running = running.map(|row| RunningOperation {
            kind: &row.kind,
            rows: row.row_count,
            rows_estimated: row.row_estimate,
        });
        metrics.set_running(&kinds, running);
        metrics.set_differences(sample.operation_figures.differences);
    }

    fn note(&self, sample: Sample) -> SampledFigures {
        let now = Instant::now();
        // Nothing panics while the lock is held.
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let next = after(*progress, &sample, now);
        *progress = Some(next);
        SampledFigures { sample: Arc::new(sample), stalled: now - next.moved_at, rate: next.rate }
    }

    /// Drops the last reading: an operation has changed the queue.
    pub(crate) async fn forget(&self) {
        self.readings.lock().await.last = None;
    }

    /// Reads every few seconds, for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut tick = interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            drop(self.recent().await);
            self.sample_spills().await;
        }
    }

    /// A figure for the metrics alone: its failure costs nothing else.
    async fn sample_spills(&self) {
        let readiness = self.status.now();
        if readiness.is_standby() || !readiness.is_ok(Component::Database) {
            return;
        }
        let mut readings = self.readings.lock().await;
        let Some(session) = readings.session.take() else { return };
        match in_time(async {
            Ok::<_, PoolError>(sample::spilled(&session.client, &self.slot).await)
        })
        .await
        {
            Ok(Ok(found)) => {
                if let Some((bytes, transactions)) = found {
                    self.metrics.slot.spilled(bytes, transactions);
                }
            }
            Ok(Err(error)) if error.as_db_error().is_some() => self.metrics.slot.inspect_failed(),
            // The session cannot be used any more.
            Ok(Err(_)) | Err(_) => return,
        }
        readings.session = Some(session);
    }
}

/// Jobs move if more is settled, another number of jobs is finished, or none waits.
fn after(known: Option<QueueProgress>, sample: &Sample, now: Instant) -> QueueProgress {
    let counts = &sample.counts;
    let finished = counts.completed + counts.failed;
    let settled = sample.settled;
    let Some(known) = known else {
        return QueueProgress { settled, finished, computed_at: now, moved_at: now, rate: 0.0 };
    };
    let idle = counts.pending + counts.processing == 0 || !sample.indexing;
    let has_moved = settled != known.settled || finished != known.finished || idle;
    let moved_at = if has_moved { now } else { known.moved_at };
    if now - known.computed_at < RECENT {
        return QueueProgress { moved_at, ..known };
    }
    let seconds = (now - known.computed_at).as_secs_f64();
    // A `clear` deletes finished jobs: their number falls then.
    let jobs = u32::try_from((finished - known.finished).max(0)).unwrap_or(u32::MAX);
    let rate = f64::from(jobs) / seconds;
    QueueProgress { settled, finished, computed_at: now, moved_at, rate }
}
