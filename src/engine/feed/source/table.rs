//! The table feed: unfinished jobs, in the order of commit, each rendered by a read.

use std::time::Duration;

use tokio::sync::oneshot;
use tracing::Span;

use crate::ack::batch::{Commits, CreatedBetween, JobKey};
use crate::ack::job_set::JobSet;
use crate::change::{Lsn, Position};
use crate::engine::feed::emit::NewTicket;
use crate::engine::feed::{Feed, FeedError, Work};
use crate::engine::recorder::GoneLive;
use crate::storage::queue::claim::Job;
use crate::telemetry::trace;

/// While the recorder may only capture, the table is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Why a job cannot be done.
const NO_KEY: &str = "change_data holds no key of a row, and record_id is not one; \
    mend the job or clear it";

impl Feed {
    /// Works through the table until nothing is left and the recorder goes live. `None` when the
    /// recorder has ended.
    pub(in crate::engine::feed) async fn finish_table(
        &mut self,
    ) -> Result<Option<GoneLive>, FeedError> {
        let mut cursor = self.before_unfinished().await?;
        let mut asked: Option<oneshot::Receiver<GoneLive>> = None;
        while self.may_go_on().await {
            cursor = self.drain_table(cursor, None).await?;
            self.take_due(Some(cursor)).await?;
            let waiting = match &mut asked {
                Some(waiting) => waiting,
                None => {
                    let (request, answer) = oneshot::channel();
                    if self.requests.send(request).await.is_err() {
                        return Ok(None);
                    }
                    asked.insert(answer)
                }
            };
            match tokio::time::timeout(LOOK_AGAIN, waiting).await {
                Err(_) => {}
                Ok(Err(_)) => return Ok(None),
                Ok(Ok(live)) => {
                    self.drain_table(cursor, Some(live.recorded)).await?;
                    if self.stop.is_cancelled() {
                        return Ok(None); // perhaps not all of it
                    }
                    self.settle_up_to(live.end_lsn).await?;
                    return Ok(Some(live));
                }
            }
        }
        Ok(None)
    }

    /// Just before the first unfinished job, so that finished ones are not walked over.
    async fn before_unfinished(&self) -> Result<Position, FeedError> {
        let lowest = self.claims.lowest_unfinished().await?;
        Ok(lowest.map_or_else(Position::default, |lowest| match lowest.ordinal.checked_sub(1) {
            Some(ordinal) => Position { ordinal, ..lowest },
            None => Position {
                commit_lsn: Lsn(lowest.commit_lsn.0.saturating_sub(1)),
                ordinal: u64::MAX >> 1,
            },
        }))
    }

    /// Claims and sends jobs after the cursor, as long as there are any; returns the new cursor.
    async fn drain_table(
        &mut self,
        mut cursor: Position,
        up_to: Option<Position>,
    ) -> Result<Position, FeedError> {
        while self.may_go_on().await {
            let jobs = self.claims.claim(cursor, up_to, self.claim_max).await?;
            let Some(last) = jobs.last() else { return Ok(cursor) };
            cursor = last.change.position;
            self.fed = self.fed.max(cursor);
            self.table_batch(jobs).await?;
        }
        Ok(cursor)
    }

    /// Works on claimed jobs, each rendered by a read.
    pub(in crate::engine::feed) async fn table_batch(
        &mut self,
        jobs: Vec<Job>,
    ) -> Result<(), FeedError> {
        let extent = JobSet::Ids(jobs.iter().map(|job| job.id).collect());
        let times = || jobs.iter().map(|job| job.change.committed_at);
        let pending = self.emitter.open(NewTicket {
            hold: Some(self.alive.hold(extent.clone())),
            extent,
            created: CreatedBetween {
                min: times().min().unwrap_or_default(),
                max: times().max().unwrap_or_default(),
            },
            end_lsn: None,
            loaded: None,
            commits: Commits::of(jobs.iter().map(|job| &job.change)),
            batch: trace::batch("table", jobs.len()),
        });
        let mut works = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (id, change) = (job.id, self.placed(job));
            if self.names_a_row(&change) {
                works.push(Work { change, job: JobKey::Id(id) });
            } else if let Some(pending) =
                pending.reference(JobKey::Id(id)).failed(NO_KEY.to_owned())
            {
                self.emitter.close_settled(pending).await?;
            }
        }
        self.cache.clear();
        self.careful = true;
        self.work(&pending, works, true).await?;
        self.careful = false;
        Ok(self.emitter.close(pending).await?)
    }

    /// Everything in the table up to this has been fed: a mark that settles behind all of it.
    async fn settle_up_to(&mut self, end_lsn: Lsn) -> Result<(), FeedError> {
        let pending = self.emitter.open(NewTicket {
            extent: JobSet::None,
            created: CreatedBetween { min: 0, max: 0 },
            end_lsn: Some(end_lsn),
            loaded: None,
            commits: Commits::default(),
            hold: None,
            batch: Span::none(),
        });
        Ok(self.emitter.close(pending).await?)
    }
}
