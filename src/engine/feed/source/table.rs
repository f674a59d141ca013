//! The queue table as source: unfinished jobs, in the order of commit, each rendered by a read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::background::BackgroundFanouts;
use super::external::ExternalPosition;
use crate::ack::batch::JobKey;
use crate::ack::in_flight::InFlight;
use crate::ack::job_set::JobSet;
use crate::change::{Change, Columns, Lsn, Operation, Position, Row};
use crate::engine::document::shape::Shapes;
use crate::engine::feed::emit::NewBatch;
use crate::engine::feed::render::visible::DeliveredXid;
use crate::engine::feed::render::{Escaping, RowsFrom};
use crate::engine::feed::{FeedCore, FeedError, JobChange};
use crate::engine::recorder::GoneLive;
use crate::storage::queue::claim::{ClaimedJob, Claimer, Job};
use crate::telemetry::trace;

/// Jobs claimed from the table at once.
pub(super) const CLAIM_MAX: u32 = 500;
/// Text of the row images that one batch holds; the rows that it reads are about as large.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// While the recorder may only capture, the table is queried this often.
const QUERY_AGAIN: Duration = Duration::from_millis(200);
/// Why a job cannot be done.
const NO_KEY: &str = "change_data holds no key of a row, and record_id is not one; \
    mend the job or clear it";

/// The unfinished jobs of the queue table.
pub struct JobSource {
    pub(super) claims: Claimer,
    in_flight: InFlight,
    pub(super) external: ExternalPosition,
    pub(in crate::engine::feed) fanouts: BackgroundFanouts,
    /// The last change that any source of this run has worked on, or that was recorded before it.
    pub(super) last_fed_position: Position,
    /// Up to here the table holds every change.
    recorded_end: watch::Receiver<Lsn>,
    /// The last end LSN that was given to a batch of the table.
    settled_end: Lsn,
}

impl JobSource {
    /// `recorded` is the position of the last change that earlier runs recorded.
    #[must_use]
    pub fn new(
        claims: Claimer,
        in_flight: InFlight,
        external: ExternalPosition,
        fanouts: BackgroundFanouts,
        recorded: Position,
        recorded_end: watch::Receiver<Lsn>,
    ) -> Self {
        Self {
            claims,
            in_flight,
            external,
            fanouts,
            last_fed_position: recorded,
            recorded_end,
            settled_end: Lsn(0),
        }
    }

    /// A source works on the change at this position.
    pub(super) fn note_fed(&mut self, position: Position) {
        self.last_fed_position = self.last_fed_position.max(position);
    }

    /// Works through the table until no job is left and the recorder goes live. `None` when the
    /// run stops, or the recorder has ended.
    pub(in crate::engine::feed) async fn finish(
        &mut self,
        core: &mut FeedCore,
    ) -> Result<Option<GoneLive>, FeedError> {
        let mut cursor = self.before_unfinished().await?;
        let mut requested: Option<oneshot::Receiver<GoneLive>> = None;
        while core.control.wait_to_begin().await {
            // Read before the table: every job below it is there to be claimed.
            let recorded_end = *self.recorded_end.borrow();
            cursor = self.drain(core, cursor, None).await?;
            self.take_due(core, cursor).await?;
            self.settle_end(core, recorded_end).await?;
            let answer = match &mut requested {
                Some(answer) => answer,
                None => match core.control.request_live().await {
                    Some(answer) => requested.insert(answer),
                    None => return Ok(None),
                },
            };
            let answer = tokio::select! {
                answer = answer => answer,
                () = self.fanouts.ready(), if core.control.may_begin() => {
                    self.fanouts.step(core, RowsFrom::Tables).await?;
                    continue;
                }
                () = tokio::time::sleep(QUERY_AGAIN) => continue,
            };
            match answer {
                Err(_) => return Ok(None),
                Ok(live) => {
                    self.drain(core, cursor, Some(live.recorded)).await?;
                    self.note_fed(live.recorded);
                    if core.control.is_stopped() {
                        return Ok(None); // jobs may remain
                    }
                    self.settle_end(core, live.end_lsn).await?;
                    return Ok(Some(live));
                }
            }
        }
        Ok(None)
    }

    /// Opens and closes an empty batch that settles after every job up to `end_lsn`, all of which
    /// have been claimed. Thus the settled position follows the recorder also while the feed may
    /// not go live.
    async fn settle_end(&mut self, core: &mut FeedCore, end_lsn: Lsn) -> Result<(), FeedError> {
        if end_lsn <= self.settled_end || core.control.is_stopped() {
            return Ok(()); // jobs may remain
        }
        self.settled_end = end_lsn;
        let new = NewBatch { end_lsn: Some(end_lsn), ..NewBatch::without_jobs() };
        let pending = core.emitter.open(new);
        Ok(core.emitter.close(pending).await?)
    }

    /// Just before the first unfinished job, so that no query reads the finished ones.
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

    /// Claims and renders the jobs after the cursor until there are none; returns the new cursor.
    async fn drain(
        &mut self,
        core: &mut FeedCore,
        mut cursor: Position,
        up_to: Option<Position>,
    ) -> Result<Position, FeedError> {
        while core.control.wait_to_begin().await {
            let jobs = self.claims.claim(cursor, up_to, CLAIM_MAX).await?;
            let Some(last) = jobs.last() else { return Ok(cursor) };
            cursor = last.position;
            self.note_fed(cursor);
            self.render_jobs(core, jobs).await?;
            if self.fanouts.is_ready() {
                self.fanouts.step(core, RowsFrom::Tables).await?;
            }
            self.fanouts.make_room(core, RowsFrom::Tables).await?;
        }
        Ok(cursor)
    }

    /// Works on claimed jobs, each rendered by a read, in batches that stay within
    /// [`BATCH_BYTES_MAX`].
    pub(super) async fn render_jobs(
        &mut self,
        core: &mut FeedCore,
        jobs: Vec<ClaimedJob>,
    ) -> Result<(), FeedError> {
        let _all = self.in_flight.hold(JobSet::Ids(jobs.iter().map(|job| job.id).collect()));
        let mut rest = VecDeque::from(jobs);
        while !rest.is_empty() {
            let batch = self.claims.with_images(&mut rest, BATCH_BYTES_MAX).await?;
            self.render_batch(core, batch).await?;
        }
        Ok(())
    }

    async fn render_batch(&mut self, core: &mut FeedCore, jobs: Vec<Job>) -> Result<(), FeedError> {
        let job_set = JobSet::Ids(jobs.iter().map(|job| job.claimed.id).collect());
        let hold = Some(self.in_flight.hold(job_set.clone()));
        let span = trace::batch("table", jobs.len());
        let recorded = jobs.iter().map(|job| &job.change);
        let new = NewBatch { hold, ..NewBatch::of_jobs(job_set, recorded, span) };
        let pending = core.emitter.open(new);
        let mut changes = Vec::with_capacity(jobs.len());
        for job in jobs {
            let key = JobKey::Id(job.claimed.id);
            if let Some(xid) = job.claimed.xid {
                core.renderer.note_delivered(DeliveredXid::Recorded(xid));
            }
            let shapes = core.renderer.shapes();
            let change = change_of(job, self.external.assigned(), shapes);
            if names_a_row(&change, shapes) {
                changes.push(JobChange { change, job: key });
            } else if let Some(pending) = pending.reference(key).failed(NO_KEY.to_owned()) {
                core.emitter.close_settled(pending).await?;
            }
        }
        core.renderer.forget_rows();
        core.render(&pending, &changes, RowsFrom::Tables, Escaping::ForParser).await?;
        self.fanouts.note_begun(core, &pending);
        Ok(core.emitter.close(pending).await?)
    }
}

/// A job's change with a position and with a key: that of `record_id` where `change_data` has
/// none, as after an edit by hand.
fn change_of(job: Job, assigned_position: Position, shapes: &Shapes) -> Change {
    let mut change = job.change;
    if job.claimed.external {
        change.position = assigned_position;
    }
    let shape = shapes.of(change.table);
    if names_a_row(&change, shapes) || !shape.has_uuid_key() {
        return change;
    }
    let key = Arc::new(Columns::new(vec![shape.key[0].name.clone()]));
    let text =
        serde_json::json!({ &shape.key[0].name: job.claimed.record_id.to_string() }).to_string();
    change.old = Row::parse(&text, Some(&key)).ok();
    change.new = None;
    change.operation = Operation::Update;
    change.incomplete = true;
    change
}

/// Whether the rows that a change is about can be known.
fn names_a_row(change: &Change, shapes: &Shapes) -> bool {
    let shape = shapes.of(change.table);
    let has_key =
        |row: &Option<Row>| row.as_ref().is_some_and(|row| !shape.key_parts(row).is_empty());
    change.operation == Operation::Truncate || has_key(&change.old) || has_key(&change.new)
}
