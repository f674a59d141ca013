//! The feed of one run, step by step.
//!
//! Which source is next, and when it may begin, is decided by the product's `TableCourse` and
//! `FeedControl`. Following the stream is a model of `feed::source::live`.
//!
//! Not here: claimed jobs (`claims`), and rendering (`render`).

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{oneshot, watch};

use super::claims::{ClaimModel, ClaimedBatch, new_batch, state};
use super::fanout::FanoutModel;
use super::outside::Outside;
use super::render::{Batch, BatchChange, Rendering};
use crate::ack::batch::{JobKey, PendingBatch};
use crate::ack::job_set::JobSet;
use crate::change::{Lsn, Operation, Position};
use crate::engine::feed::control::FeedControl;
use crate::engine::feed::emit::{Emitter, NewBatch};
use crate::engine::feed::render::RowsFrom;
use crate::engine::feed::source::course::{LiveStart, TableCourse, TableStep};
use crate::engine::recorder::{GoneLive, Recorded};
use crate::telemetry::mode::FeedMode;

/// The feed waits this long for the recorder's answer, in milliseconds.
const ANSWER_WITHIN: u64 = 1000;
/// Between two queries for jobs that are due, in milliseconds.
const DUE_EVERY: u64 = 1000;

/// What the feed works on.
#[derive(Debug)]
enum FeedStage {
    /// The indices are not prepared.
    Preparing,
    Table(TableCourse),
    Live(GoneLive),
    Ended,
}

/// The feed of one run.
pub(super) struct FeedModel {
    control: FeedControl,
    emitter: Option<Emitter>,
    recorded_end: watch::Receiver<Lsn>,
    claims: ClaimModel,
    rendering: Rendering,
    fanouts: FanoutModel,
    stage: FeedStage,
    batch: Option<Batch>,
    answer: Option<oneshot::Receiver<GoneLive>>,
    /// The answer, until the jobs up to its position have been claimed.
    gone_live: Option<GoneLive>,
    /// When the wait for the answer ends, or the next query for due jobs begins.
    pub(super) wakes_at: u64,
}

impl FeedModel {
    pub(super) fn new(
        control: FeedControl,
        emitter: Emitter,
        claims: ClaimModel,
        recorded_end: watch::Receiver<Lsn>,
        fanouts: FanoutModel,
        outside: &Outside,
    ) -> Self {
        Self {
            control,
            emitter: Some(emitter),
            recorded_end,
            claims,
            rendering: Rendering::new(outside.queue.read_ahead, fanouts.rows_max),
            fanouts,
            stage: FeedStage::Preparing,
            batch: None,
            answer: None,
            gone_live: None,
            wakes_at: 0,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, FeedStage::Live(_))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, FeedStage::Ended)
    }

    /// Takes one step; false if there is none now. `has_room` for one action more.
    pub(super) fn step(&mut self, has_room: bool, outside: &mut Outside) -> bool {
        let Some(emitter) = &mut self.emitter else { return false };
        if self.batch.is_some() {
            return self.rendering.advance(&mut self.batch, emitter, has_room, outside);
        }
        if let Some(ClaimedBatch { new, changes }) = self.claims.next_batch(outside) {
            self.rendering.forget_rows();
            let pending = emitter.open(new);
            self.batch = Some(Batch::new(pending, changes, RowsFrom::Tables));
            return true;
        }
        if self.claims.take_due(&self.control, outside) {
            return true;
        }
        // A chunk of a fan-out goes between other batches, and where there are none.
        let turn = outside.rng.bool();
        if turn && self.go_on_in_background(outside) {
            return true;
        }
        let moved = match &self.stage {
            FeedStage::Preparing => self.prepare(outside),
            FeedStage::Table(course) => self.at_table(*course, outside),
            FeedStage::Live(_) => self.follow(outside),
            FeedStage::Ended => false,
        };
        moved || (!turn && self.go_on_in_background(outside))
    }

    fn go_on_in_background(&mut self, outside: &mut Outside) -> bool {
        let beside = match self.stage {
            FeedStage::Table(_) => RowsFrom::Tables,
            FeedStage::Live(_) => RowsFrom::Stream,
            FeedStage::Preparing | FeedStage::Ended => return false,
        };
        let Some(emitter) = &mut self.emitter else { return false };
        if self.fanouts.read_begun(self.rendering.begun, outside) {
            return true;
        }
        let Some(chunk) = self.fanouts.next_chunk(&self.control, outside) else { return false };
        if beside == RowsFrom::Tables {
            self.rendering.forget_rows();
        }
        let pending = emitter.open(NewBatch { chunk: Some(chunk.settles), ..new_batch() });
        let mut batch = Batch::new(pending, Vec::new(), RowsFrom::Tables);
        self.rendering.rewrite(&mut batch, &chunk.rows, &chunk.jobs, chunk.highest, outside);
        self.batch = Some(batch);
        true
    }

    fn prepare(&mut self, outside: &mut Outside) -> bool {
        if self.control.is_stopped() {
            self.end();
            return true;
        }
        if !outside.index.is_up {
            return false;
        }
        // The write aliases are this epoch's from now on.
        outside.index.epoch = outside.queue.epoch;
        self.control.set_mode(FeedMode::Preparing);
        self.begin_table(outside);
        true
    }

    fn begin_table(&mut self, outside: &mut Outside) {
        self.control.set_mode(FeedMode::Table);
        self.rendering.forget_rows();
        let cursor = outside.queue.lowest_unfinished().map_or_else(Position::default, |lowest| {
            let before = Lsn(lowest.commit_lsn.0 - 1);
            let last = Position { commit_lsn: before, ordinal: u64::MAX >> 1 };
            let previous = lowest.ordinal.checked_sub(1);
            previous.map_or(last, |ordinal| Position { ordinal, ..lowest })
        });
        self.answer = None;
        self.gone_live = None;
        self.stage = FeedStage::Table(TableCourse::new(cursor));
        outside.note(|| format!("feed: table after {cursor}"));
    }

    fn end(&mut self) {
        self.stage = FeedStage::Ended;
        self.answer = None;
        self.gone_live = None;
        self.emitter = None;
    }

    fn at_table(&mut self, mut course: TableCourse, outside: &mut Outside) -> bool {
        match course.next() {
            TableStep::BeginPass | TableStep::Claim { .. } if !self.control.may_begin() => {
                if self.control.is_stopped() {
                    self.end();
                    return true;
                }
                return false;
            }
            TableStep::BeginPass => {
                let recorded_end = *self.recorded_end.borrow();
                match self.answer.as_mut().map(oneshot::Receiver::try_recv) {
                    Some(Ok(live)) => self.answered(&mut course, live, outside),
                    Some(Err(oneshot::error::TryRecvError::Closed)) => {
                        self.end();
                        return true;
                    }
                    Some(Err(oneshot::error::TryRecvError::Empty)) | None => {
                        course.pass_begun(recorded_end);
                    }
                }
            }
            TableStep::Claim { after, up_to } => {
                let last = self.claims.claim(after, up_to, outside);
                course.claimed(last);
            }
            TableStep::TakeDue { behind } => {
                self.claims.begin_due(behind);
                course.due_taken();
            }
            TableStep::SettleEnd(end_lsn) => {
                self.settle_end(end_lsn, outside);
                course.end_settled();
            }
            TableStep::AskLive => return self.ask_live(course, outside),
            TableStep::Follow(position) => {
                self.claims.fed.note(position);
                match self.gone_live.take().filter(|_| !self.control.is_stopped()) {
                    Some(live) => self.begin_live(live, outside),
                    None => self.end(),
                }
                return true;
            }
        }
        self.stage = FeedStage::Table(course);
        true
    }

    fn settle_end(&mut self, end_lsn: Lsn, outside: &mut Outside) {
        if self.control.is_stopped() || !self.claims.fed.settle_end(end_lsn) {
            return;
        }
        outside.note(|| format!("feed: settle the end {end_lsn}"));
        let new = NewBatch { end_lsn: Some(end_lsn), ..NewBatch::without_jobs() };
        let Some(emitter) = &mut self.emitter else { return };
        let pending = emitter.open(new);
        self.batch = Some(Batch::new(pending, Vec::new(), RowsFrom::Tables));
    }

    /// Asks the recorder once, and waits for its answer for a while.
    fn ask_live(&mut self, mut course: TableCourse, outside: &mut Outside) -> bool {
        if self.answer.is_none() {
            // The channel of requests has room: there is one request at a time.
            let Some(asked) = self.control.request_live().now_or_never() else { return false };
            let Some(answer) = asked else {
                self.end(); // the recorder has ended
                return true;
            };
            self.answer = Some(answer);
            self.wakes_at = outside.now + ANSWER_WITHIN;
        }
        match self.answer.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Ok(live)) => self.answered(&mut course, live, outside),
            Some(Err(oneshot::error::TryRecvError::Empty)) if outside.now < self.wakes_at => {
                return false;
            }
            Some(Err(oneshot::error::TryRecvError::Empty)) => {
                self.wakes_at = outside.now + ANSWER_WITHIN;
                course.unanswered();
            }
            Some(Err(oneshot::error::TryRecvError::Closed)) | None => {
                self.end();
                return true;
            }
        }
        self.stage = FeedStage::Table(course);
        true
    }

    fn answered(&mut self, course: &mut TableCourse, live: GoneLive, outside: &mut Outside) {
        let GoneLive { recorded, end_lsn, .. } = live;
        outside.note(|| format!("feed: live after {recorded}, end {end_lsn}"));
        course.answered(LiveStart { recorded, end_lsn });
        self.gone_live = Some(live);
    }

    fn begin_live(&mut self, live: GoneLive, outside: &mut Outside) {
        self.control.set_mode(FeedMode::Live);
        self.rendering.forget_rows();
        self.wakes_at = outside.now;
        self.stage = FeedStage::Live(live);
        outside.note(|| "feed: live".to_owned());
    }

    /// Takes a batch of the stream, or the jobs that are due, whichever the schedule chooses.
    fn follow(&mut self, outside: &mut Outside) -> bool {
        let FeedStage::Live(live) = &mut self.stage else { return false };
        let is_woken = outside.now >= self.wakes_at;
        if is_woken && outside.rng.bool() {
            self.begin_due(outside);
            return true;
        }
        match live.batches.try_recv() {
            Ok(batch) => {
                self.control.set_caught_up(live.batches.is_empty());
                self.open_recorded(batch, outside);
            }
            Err(TryRecvError::Disconnected) => {
                self.control.set_caught_up(false);
                if self.control.is_stopped() {
                    self.end();
                } else {
                    self.begin_table(outside);
                }
            }
            Err(TryRecvError::Empty) => {
                let woken = self.control.wake().notified().now_or_never().is_some();
                if !is_woken && !woken {
                    return false;
                }
                self.begin_due(outside);
            }
        }
        true
    }

    fn begin_due(&mut self, outside: &Outside) {
        self.wakes_at = outside.now + DUE_EVERY;
        let behind = self.claims.fed.due_while_live();
        self.claims.begin_due(behind);
    }

    fn open_recorded(&mut self, batch: Recorded, outside: &mut Outside) {
        let Recorded { hold, changes, end_lsn, .. } = batch;
        outside.note(|| format!("feed: live batch of {} up to {end_lsn:?}", changes.len()));
        let positions = changes.first().zip(changes.last());
        let jobs = positions.map_or(JobSet::None, |(first, last)| JobSet::Range {
            first: first.position,
            last: last.position,
        });
        if let Some(last) = changes.last() {
            self.claims.fed.note(last.position);
        }
        let change_of = |position: Position| {
            let at = outside.source.index_of(position).expect("it is on the stream");
            BatchChange {
                state: state(at),
                position,
                subject: outside.source.changes[at].subject,
                is_delete: outside.source.changes[at].operation == Operation::Delete,
                job: JobKey::At(position),
            }
        };
        let changes = changes.iter().map(|change| change_of(change.position)).collect();
        self.open(NewBatch { jobs, hold, end_lsn, ..new_batch() }, changes, RowsFrom::Stream);
    }

    fn open(&mut self, new: NewBatch, changes: Vec<BatchChange>, from: RowsFrom) {
        let Some(emitter) = &mut self.emitter else { return };
        let pending: Arc<PendingBatch> = emitter.open(new);
        self.batch = Some(Batch::new(pending, changes, from));
    }
}
