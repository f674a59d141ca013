//! Jobs that no cursor will meet: retries that are due, jobs that an operator made `pending`, rows
//! that another program inserted, and jobs whose index takes documents again.
//!
//! They pass through the one feed, between its batches: rendered by reads, each under its own
//! version, so what is newer in Elasticsearch stays. Jobs without a position are claimed only once
//! they can have one (`external`), and retries do not wait for them.
//!
//! Not here: finding them (`storage::queue::claim`).

use tokio::time::Instant;

use super::table::{CLAIM_MAX, JobSource};
use crate::change::Position;
use crate::engine::feed::{FeedCore, FeedError};
use crate::storage::queue::claim::ClaimedJob;
use crate::telemetry::waits::WaitName;

/// Batches of one pass, so that the stream does not wait long; the next pass has the rest.
const BATCHES_MAX: usize = 4;

impl JobSource {
    /// Works on the jobs that are due, beside the stream.
    pub(super) async fn take_due_while_live(
        &mut self,
        core: &mut FeedCore,
    ) -> Result<(), FeedError> {
        if !self.looks.allows(Instant::now()) {
            return Ok(());
        }
        self.take_due_at_once(core).await
    }

    /// As [`JobSource::take_due_while_live`], at the request of another task, which knows of some.
    pub(super) async fn take_due_at_once(&mut self, core: &mut FeedCore) -> Result<(), FeedError> {
        self.take_due(core, self.fed.due_while_live()).await
    }

    /// Works on the jobs that are due at positions up to `behind`, and on those without one.
    pub(super) async fn take_due(
        &mut self,
        core: &mut FeedCore,
        behind: Position,
    ) -> Result<(), FeedError> {
        let waits = core.emitter.waits().clone();
        for _ in 0..BATCHES_MAX {
            if !core.control.may_begin() {
                return Ok(());
            }
            let began = Instant::now();
            let jobs = waits.during(WaitName::Claim, self.claim_due(behind)).await?;
            if !jobs.is_empty() {
                self.render_jobs(core, jobs).await?;
            } else if !waits.during(WaitName::Claim, self.release_parked(core)).await? {
                self.looks.found_nothing(Instant::now(), began.elapsed());
                return Ok(());
            }
        }
        // Jobs may remain.
        core.control.wake_again();
        Ok(())
    }

    /// Claims jobs that are due: those with a position up to `behind`, else those without one.
    async fn claim_due(&mut self, behind: Position) -> Result<Vec<ClaimedJob>, FeedError> {
        let jobs = self.claims.due(behind, CLAIM_MAX).await?;
        if !jobs.is_empty() || !self.can_assign_position().await? {
            return Ok(jobs);
        }
        Ok(self.claims.without_position(CLAIM_MAX).await?)
    }

    /// Ends the wait of some jobs for the indices that take documents; false if there are none. It
    /// depends on what waits and on what is closed, and not on the moment when an index opens, so
    /// that neither a job that is parked after it nor one of an earlier run is left.
    async fn release_parked(&mut self, core: &FeedCore) -> Result<bool, FeedError> {
        let mut released = 0;
        for index in self.claims.awaited_indices().await? {
            if !core.control.is_closed(&index) {
                released += self.claims.release(&index, CLAIM_MAX).await?;
            }
        }
        Ok(released > 0)
    }

    /// Whether jobs without a position are due, and a position is assigned to them.
    async fn can_assign_position(&mut self) -> Result<bool, FeedError> {
        if !self.claims.any_without_position().await? {
            self.external.none_waits();
            return Ok(false);
        }
        Ok(self.external.assign(self.fed.last()).await?)
    }
}
