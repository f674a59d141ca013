//! The queue table as source: unfinished jobs, in the order of commit, each rendered by a read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::error::{RecvError, TryRecvError};
use tokio::sync::{oneshot, watch};

use super::background::BackgroundFanouts;
use super::course::{FedPositions, LiveStart, TableCourse, TableStep};
use super::external::ExternalPosition;
use super::looks::LookBudget;
use super::operation;
use super::operation::OperationChunks;
use crate::ack::batch::JobKey;
use crate::ack::in_flight::InFlight;
use crate::ack::job_set::JobSet;
use crate::ack::memory::MemoryPart;
use crate::change::{Change, Columns, Lsn, Operation, Position, Row};
use crate::engine::document::shape::Shapes;
use crate::engine::feed::emit::NewBatch;
use crate::engine::feed::render::visible::DeliveredXid;
use crate::engine::feed::render::{Escaping, RowsFrom};
use crate::engine::feed::{FeedCore, FeedError, JobChange};
use crate::engine::recorder::GoneLive;
use crate::storage::queue::claim::{ClaimedJob, Claimer, Job};
use crate::telemetry::trace;
use crate::telemetry::waits::WaitName;

/// Jobs claimed from the table at once.
pub(super) const CLAIM_MAX: u32 = 500;
/// Text of the row images that one batch holds; the rows that it reads are about as large.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// While the recorder may only capture, the table is queried this often.
const QUERY_AGAIN: Duration = Duration::from_millis(200);
/// Why a job cannot be done.
pub(super) const NO_KEY: &str = "change_data holds no key of a row, and record_id is not one; \
    mend the job or clear it";

/// The unfinished jobs of the queue table.
pub struct JobSource {
    pub(super) claims: Claimer,
    in_flight: InFlight,
    pub(super) external: ExternalPosition,
    pub(in crate::engine::feed) fanouts: BackgroundFanouts,
    pub(super) operations: OperationChunks,
    pub(super) fed: FedPositions,
    /// Up to here the table holds every change.
    recorded_end: watch::Receiver<Lsn>,
    pub(super) looks: LookBudget,
}

/// What is sent between the batches of jobs.
pub struct BetweenBatches {
    pub fanouts: BackgroundFanouts,
    pub operations: OperationChunks,
}

impl JobSource {
    /// `recorded` is the position of the last change that earlier runs recorded.
    #[must_use]
    pub fn new(
        claims: Claimer,
        in_flight: InFlight,
        external: ExternalPosition,
        between: BetweenBatches,
        recorded: Position,
        recorded_end: watch::Receiver<Lsn>,
    ) -> Self {
        let BetweenBatches { fanouts, operations } = between;
        let fed = FedPositions::new(recorded);
        let looks = LookBudget::default();
        Self { claims, in_flight, external, fanouts, operations, fed, recorded_end, looks }
    }

    /// Works through the table until no job is left and the recorder goes live. `None` when the
    /// run stops, or the recorder has ended.
    pub(in crate::engine::feed) async fn finish(
        &mut self,
        core: &mut FeedCore,
    ) -> Result<Option<GoneLive>, FeedError> {
        let mut course = TableCourse::new(self.before_unfinished(core).await?);
        let mut requested: Option<oneshot::Receiver<GoneLive>> = None;
        let mut gone_live = None;
        loop {
            match course.next() {
                TableStep::BeginPass if core.control.wait_to_begin().await => {
                    // Before the answer is asked for: a recorder that has gone live has recorded
                    // jobs that no claim meets.
                    let recorded_end = *self.recorded_end.borrow();
                    match requested.as_mut().map(oneshot::Receiver::try_recv) {
                        Some(Ok(live)) => gone_live = Some(answered(&mut course, live)),
                        Some(Err(TryRecvError::Closed)) => return Ok(None),
                        Some(Err(TryRecvError::Empty)) | None => course.pass_begun(recorded_end),
                    }
                }
                TableStep::Claim { after, up_to } if core.control.wait_to_begin().await => {
                    course.claimed(self.claim(core, after, up_to).await?);
                }
                TableStep::BeginPass | TableStep::Claim { .. } => return Ok(None),
                TableStep::TakeDue { behind } => {
                    self.take_due(core, behind).await?;
                    course.due_taken();
                }
                TableStep::SettleEnd(end_lsn) => {
                    self.settle_end(core, end_lsn).await?;
                    course.end_settled();
                }
                TableStep::AskLive => {
                    let answer = match requested.take() {
                        Some(answer) => answer,
                        None => match core.control.request_live().await {
                            Some(answer) => answer,
                            None => return Ok(None),
                        },
                    };
                    match self.while_asked(core, requested.insert(answer)).await? {
                        Some(Ok(live)) => gone_live = Some(answered(&mut course, live)),
                        Some(Err(_)) => return Ok(None),
                        None => course.unanswered(),
                    }
                }
                TableStep::Follow(position) => {
                    self.fed.note(position);
                    // After a stop jobs may remain.
                    return Ok(gone_live.filter(|_| !core.control.is_stopped()));
                }
            }
        }
    }

    /// The recorder's answer to the request to go live. `None` after a step of background work, or a
    /// while without an answer: there may be jobs to claim.
    async fn while_asked(
        &mut self,
        core: &mut FeedCore,
        answer: &mut oneshot::Receiver<GoneLive>,
    ) -> Result<Option<Result<GoneLive, RecvError>>, FeedError> {
        tokio::select! {
            biased;
            answer = answer => return Ok(Some(answer)),
            () = self.fanouts.ready(), if core.control.may_begin() => {
                self.fanouts.step(core, RowsFrom::Tables).await?;
            }
            chunk = self.operations.next(), if core.control.may_begin() => {
                operation::send_chunk(core, chunk, RowsFrom::Tables).await?;
            }
            () = tokio::time::sleep(QUERY_AGAIN) => {}
        }
        Ok(None)
    }

    /// Opens and closes an empty batch that settles after every job up to `end_lsn`, all of which
    /// have been claimed. Thus the settled position follows the recorder also while the feed may
    /// not go live.
    async fn settle_end(&mut self, core: &mut FeedCore, end_lsn: Lsn) -> Result<(), FeedError> {
        if core.control.is_stopped() || !self.fed.settle_end(end_lsn) {
            return Ok(()); // jobs may remain
        }
        let new = NewBatch { end_lsn: Some(end_lsn), ..NewBatch::without_jobs() };
        let pending = core.emitter.open(new);
        Ok(core.emitter.close(pending).await?)
    }

    /// Just before the first unfinished job, so that no query reads the finished ones.
    async fn before_unfinished(&self, core: &FeedCore) -> Result<Position, FeedError> {
        let lowest = self.claims.lowest_unfinished();
        let lowest = core.emitter.waits().during(WaitName::Claim, lowest).await?;
        Ok(lowest.map_or_else(Position::default, |lowest| match lowest.ordinal.checked_sub(1) {
            Some(ordinal) => Position { ordinal, ..lowest },
            None => Position {
                commit_lsn: Lsn(lowest.commit_lsn.0.saturating_sub(1)),
                ordinal: u64::MAX >> 1,
            },
        }))
    }

    /// Claims and renders the next jobs after a position; returns the position of the last one.
    async fn claim(
        &mut self,
        core: &mut FeedCore,
        after: Position,
        up_to: Option<Position>,
    ) -> Result<Option<Position>, FeedError> {
        core.emitter.memory_room().await;
        let claim = self.claims.claim(after, up_to, CLAIM_MAX);
        let jobs = core.emitter.waits().during(WaitName::Claim, claim).await?;
        let last = jobs.last().map(|job| job.position);
        if let Some(last) = last {
            self.fed.note(last);
            self.render_jobs(core, jobs).await?;
            if self.fanouts.is_ready() {
                self.fanouts.step(core, RowsFrom::Tables).await?;
            }
            self.fanouts.make_room(core, RowsFrom::Tables).await?;
            if let Some(chunk) = self.operations.try_next() {
                operation::send_chunk(core, chunk, RowsFrom::Tables).await?;
            }
        }
        Ok(last)
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
            let images = self.claims.with_images(&mut rest, BATCH_BYTES_MAX);
            let batch = core.emitter.waits().during(WaitName::Claim, images).await?;
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
        let bytes = changes.iter().map(|job| job.change.size()).sum();
        let _memory = core.emitter.memory().hold(MemoryPart::Claims, bytes);
        core.renderer.forget_rows();
        core.render(&pending, &changes, RowsFrom::Tables, Escaping::ForParser).await?;
        self.fanouts.note_begun(core, &pending);
        Ok(core.emitter.close(pending).await?)
    }
}

/// The recorder has gone live.
fn answered(course: &mut TableCourse, live: GoneLive) -> GoneLive {
    let GoneLive { recorded, end_lsn, .. } = live;
    course.answered(LiveStart { recorded, end_lsn });
    live
}

/// A job's change with a position and with a key: that of `record_id` where `change_data` has
/// none, as after an edit by hand. A change that came without its key has the nil UUID.
fn change_of(job: Job, assigned_position: Position, shapes: &Shapes) -> Change {
    let mut change = job.change;
    if job.claimed.external {
        change.position = assigned_position;
    }
    let shape = shapes.of(change.table);
    let is_unknown = job.claimed.record_id.is_nil();
    if names_a_row(&change, shapes) || !shape.has_uuid_key() || is_unknown {
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
pub(super) fn names_a_row(change: &Change, shapes: &Shapes) -> bool {
    let shape = shapes.of(change.table);
    let has_key = |row: &Option<Row>| row.as_ref().is_some_and(|row| shape.has_key(row));
    change.operation == Operation::Truncate || has_key(&change.old) || has_key(&change.new)
}
