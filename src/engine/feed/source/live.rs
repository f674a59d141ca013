//! The live feed: batches that the recorder has just written, rendered from their own images.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::ack::batch::{Commits, CreatedBetween, JobKey};
use crate::ack::job_set::JobSet;
use crate::engine::feed::emit::NewTicket;
use crate::engine::feed::{Feed, FeedError, Work};
use crate::engine::recorder::{GoneLive, Recorded};

/// Delivered transactions remembered before a look at which of them any snapshot shows.
const DELIVERED_MAX: usize = 4096;
/// Between two looks for jobs that are due, or that something else inserted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Feed {
    /// Follows the recorder until it goes back to capturing.
    pub(in crate::engine::feed) async fn follow(
        &mut self,
        mut live: GoneLive,
    ) -> Result<(), FeedError> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let poke = Arc::clone(&self.poke);
        loop {
            tokio::select! {
                batch = live.batches.recv() => {
                    let Some(batch) = batch else { return Ok(()) };
                    let caught_up = live.batches.is_empty();
                    self.caught_up
                        .send_if_modified(|known| std::mem::replace(known, caught_up) != caught_up);
                    self.live_batch(batch).await?;
                    self.cache.trim();
                    if self.reader.delivered.len() > DELIVERED_MAX {
                        self.reader.prune().await?;
                    }
                }
                _ = looks.tick() => self.take_due(None).await?,
                () = poke.notified() => self.take_due(None).await?,
            }
        }
    }

    async fn live_batch(&mut self, batch: Recorded) -> Result<(), FeedError> {
        let positions = batch.changes.first().zip(batch.changes.last());
        let extent = positions.map_or(JobSet::None, |(first, last)| JobSet::Range {
            first: first.position,
            last: last.position,
        });
        let times = || batch.changes.iter().map(|change| change.committed_at);
        let created = CreatedBetween {
            min: times().min().unwrap_or_default(),
            max: times().max().unwrap_or_default(),
        };
        let (end_lsn, hold, span) = (batch.end_lsn, batch.hold, batch.span);
        let commits = Commits::of(batch.changes.iter());
        let new = NewTicket { extent, created, end_lsn, loaded: None, commits, hold, batch: span };
        let pending = self.emitter.open(new);
        if let Some((_, last)) = positions {
            self.fed = self.fed.max(last.position);
        }
        let works = batch
            .changes
            .into_iter()
            .map(|change| Work { job: JobKey::At(change.position), change })
            .collect();
        self.work(&pending, works, false).await?;
        Ok(self.emitter.close(pending).await?)
    }
}
