//! The duty that reads the queue's figures for the metrics, every 5 s, on a session of its own, so
//! that nothing waits for it and its failure costs nothing but the figures.
//!
//! Not here: the query (`queue::figures`).

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_postgres::Client;

use crate::config::Database;
use crate::metrics::Metrics;
use crate::metrics::lag::seconds;
use crate::metrics::queue::Figures;
use crate::postgres::{self, fault};
use crate::queue::figures;
use crate::queue::lease::Lease;
use crate::status::Repeats;

const EVERY: Duration = Duration::from_secs(5);
/// A figure is not worth more of the server's time than this.
const SESSION: &str = "set statement_timeout = '2s'; set lock_timeout = '500ms'";

/// What the duty works with.
pub struct Sampler {
    pub database: Database,
    pub lease: Lease,
    pub metrics: Metrics,
}

impl Sampler {
    /// Samples until dropped.
    pub async fn run(self) {
        let mut repeats = Repeats::default();
        loop {
            let name = self.lease.application_name("sample");
            match postgres::connect(&self.database, &name).await {
                Ok(session) => {
                    let error = self.sample(&session.client).await;
                    self.failed(&fault::sentence(&error), &mut repeats);
                }
                Err(error) => self.failed(&error.to_string(), &mut repeats),
            }
            sleep(EVERY).await;
        }
    }

    /// Samples until something fails.
    async fn sample(&self, client: &Client) -> tokio_postgres::Error {
        if let Err(error) = client.batch_execute(SESSION).await {
            return error;
        }
        let mut first = true;
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = seconds(SystemTime::now());
            match figures::read(client).await {
                Ok(found) => {
                    if std::mem::take(&mut first)
                        && let Some(age) = oldest_unfinished(&found)
                    {
                        self.metrics.pipeline.unfinished_since(now - age);
                    }
                    self.metrics.queue.set(&found, now);
                }
                Err(error) => return error,
            }
            match figures::spilled(client, &self.lease.slot).await {
                Ok(Some((bytes, transactions))) => self.metrics.slot.spilled(bytes, transactions),
                Ok(None) => {}
                Err(error) if error.as_db_error().is_some() => self.metrics.slot.inspect_failed(),
                Err(error) => return error,
            }
        }
    }

    fn failed(&self, sentence: &str, repeats: &mut Repeats) {
        self.metrics.queue.sample_failed();
        let Some(held_back) = repeats.admit(Instant::now(), sentence) else { return };
        tracing::warn!(
            held_back,
            event = "queue_sample_failed",
            error = sentence,
            "the queue's figures were not read; trying again"
        );
    }
}

fn oldest_unfinished(found: &Figures) -> Option<f64> {
    let oldest = found.oldest_pending.max(found.oldest_processing);
    (oldest > 0.0).then_some(oldest)
}
