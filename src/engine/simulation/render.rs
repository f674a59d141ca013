//! Renders one batch step by step: the plan of each part, its read, its actions, its fan-out.
//!
//! `DocumentPlan`, `ReadAhead`, `RowCache` and the `Emitter` are the product's; that a step follows
//! the other, and when a row is read, is a model of `feed::render`.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use futures_util::FutureExt;
use smallvec::{SmallVec, smallvec};

use super::index::{Shown, index_of};
use super::outside::Outside;
use super::source::Subject;
use crate::ack::batch::{JobAck, JobKey, PendingBatch};
use crate::ack::fanout::{BegunFanout, FanoutGroup, FanoutRows};
use crate::change::{Lsn, Position, Row, TableId};
use crate::engine::document::build::Embedded;
use crate::engine::document::definition::SourceId;
use crate::engine::document::id::{DocumentId, IndexId, version};
use crate::engine::feed::action::Action;
use crate::engine::feed::emit::Emitter;
use crate::engine::feed::render::RowsFrom;
use crate::engine::feed::render::ahead::ReadAhead;
use crate::engine::feed::render::cache::RowCache;
use crate::engine::feed::render::plan::{Content, DocumentPlan, DocumentStep};

/// The table of the parent row, and its key.
const PARENTS: TableId = TableId(0);
const PARENT: &str = "p";
/// The table of the documents' rows.
pub(super) const DOCUMENTS: TableId = TableId(1);
/// Rows that one read of a fan-out, or one page of a listing, has.
const PAGE_ROWS: usize = 2;
/// The stored read-ahead LSN is raised in steps, as in `feed::render::stored`.
const READ_AHEAD_STEP: u64 = 64;

/// A change of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchChange {
    /// The state of the row that it carries.
    pub(super) state: u32,
    pub(super) position: Position,
    pub(super) subject: Subject,
    pub(super) is_delete: bool,
    pub(super) job: JobKey,
}

/// What is still to be done for the batch, in order.
#[derive(Debug)]
enum Work {
    /// Changes without a TRUNCATE: plan and read.
    Part(Range<usize>),
    Send {
        row: usize,
        content: Option<Shown>,
        version: u64,
        jobs: SmallVec<[JobAck; 1]>,
    },
    FanOut {
        from: usize,
        jobs: Arc<[JobKey]>,
        highest: Position,
    },
    /// Waits until everything sent has its verdict, and lists.
    Truncate(usize),
    Page {
        rows: Vec<usize>,
        change: usize,
    },
}

/// A batch that is being rendered.
#[derive(Debug)]
pub(super) struct Batch {
    pending: Arc<PendingBatch>,
    changes: Vec<BatchChange>,
    from: RowsFrom,
    work: VecDeque<Work>,
}

impl Batch {
    /// A TRUNCATE ends a part.
    pub(super) fn new(
        pending: Arc<PendingBatch>,
        changes: Vec<BatchChange>,
        from: RowsFrom,
    ) -> Self {
        let mut work = VecDeque::new();
        let mut start = 0;
        for (at, change) in changes.iter().enumerate() {
            if change.subject == Subject::Table {
                work.push_back(Work::Part(start..at));
                work.push_back(Work::Truncate(at));
                start = at + 1;
            }
        }
        work.push_back(Work::Part(start..changes.len()));
        work.retain(|work| !matches!(work, Work::Part(range) if range.is_empty()));
        Self { pending, changes, from, work }
    }
}

/// What rendering remembers from batch to batch.
#[derive(Debug)]
pub(super) struct Rendering {
    ahead: ReadAhead,
    cache: RowCache,
    /// As it is stored.
    read_ahead: Lsn,
    /// A fan-out of more rows is left to the background.
    fanout_rows_max: usize,
    /// Fan-outs that were left to it.
    pub(super) begun: u64,
}

pub(super) fn document(row: usize) -> DocumentId {
    DocumentId::new(source(row).index, ["0", "1", "2", "3"][row].into())
}

fn source(row: usize) -> SourceId {
    SourceId { index: IndexId([0, 1][index_of(row)]), number: 0 }
}

fn version_of(position: Position) -> u64 {
    version(position, Lsn(0)).expect("no position is below the base")
}

impl Rendering {
    /// `read_ahead` is what earlier runs have stored.
    pub(super) fn new(read_ahead: Lsn, fanout_rows_max: usize) -> Self {
        let ahead = ReadAhead::starting_at(read_ahead);
        Self { ahead, cache: RowCache::default(), read_ahead, fanout_rows_max, begun: 0 }
    }

    pub(super) fn forget_rows(&mut self) {
        self.cache.clear();
    }

    /// Takes the next step of the batch; false if it has to wait. `has_room` for one action more.
    pub(super) fn advance(
        &mut self,
        batch: &mut Option<Batch>,
        emitter: &Emitter,
        has_room: bool,
        outside: &mut Outside,
    ) -> bool {
        let Some(open) = batch else { return false };
        match open.work.pop_front() {
            None => {
                let Some(Batch { pending, .. }) = batch.take() else { return false };
                self.begun += pending.begun_fanouts().fanouts as u64;
                let closed = emitter.close(pending).now_or_never();
                assert!(matches!(closed, Some(Ok(()))), "the checkpoint takes the batch");
            }
            Some(Work::Part(range)) => self.part(open, range, outside),
            Some(work @ Work::Send { .. }) if !has_room => {
                open.work.push_front(work);
                return false;
            }
            Some(Work::Send { row, content, version, jobs }) => {
                outside.note(|| format!("feed: send {row} {content:?} v{version:x}"));
                let body = content.map(Shown::to_bytes);
                let sent =
                    emitter.send(Action::new(document(row), body, version, jobs)).now_or_never();
                assert!(matches!(sent, Some(Ok(()))), "the sink takes the action");
            }
            Some(Work::FanOut { from, jobs, highest }) => {
                self.fan_out(open, from, jobs, highest, outside);
            }
            Some(Work::Truncate(change)) => {
                // A listing waits for the index, and for the verdicts of all that precedes it.
                if !outside.index.is_up || emitter.barrier().now_or_never().is_none() {
                    open.work.push_front(Work::Truncate(change));
                    return false;
                }
                let listed = outside.index.listed();
                outside.note(|| format!("feed: listed {listed:?}"));
                for rows in listed.chunks(PAGE_ROWS).rev() {
                    open.work.push_front(Work::Page { rows: rows.to_vec(), change });
                }
            }
            Some(Work::Page { rows, change }) => self.page(open, &rows, change, outside),
        }
        true
    }

    fn part(&mut self, open: &mut Batch, range: Range<usize>, outside: &mut Outside) {
        let mut plan = DocumentPlan::default();
        let mut causes: Vec<JobKey> = Vec::new();
        let mut highest = Position::default();
        for number in range {
            let change = open.changes[number];
            if open.from == RowsFrom::Stream {
                self.ahead.passed(change.position.commit_lsn);
            }
            match change.subject {
                Subject::Row(row) => plan.touch(self.step(open, number, row)),
                Subject::Parent => {
                    let lsn = change.position.commit_lsn;
                    self.cache.apply(PARENTS, PARENT, Some(&parent_row(change.state)), lsn);
                    causes.push(change.job);
                    highest = highest.max(change.position);
                }
                Subject::Table => unreachable!("a TRUNCATE ends a part"),
            }
        }
        if !causes.is_empty() {
            let jobs = Arc::from(causes);
            open.work.push_front(Work::FanOut { from: 0, jobs, highest });
        }
        self.execute(open, plan, outside);
    }

    fn step(&self, open: &Batch, number: usize, row: usize) -> DocumentStep {
        let change = open.changes[number];
        let document = document(row);
        let must_read = open.from == RowsFrom::Tables
            || self.ahead.covers(&document, change.position.commit_lsn);
        let content = match change.is_delete {
            _ if must_read => Content::Read(Vec::from([document.id.to_string()])),
            true => Content::Gone,
            false => Content::Image(number),
        };
        DocumentStep {
            document,
            source: source(row),
            table: DOCUMENTS,
            content,
            version: version_of(change.position),
            jobs: smallvec![open.pending.reference(change.job)],
            unchanged: false,
        }
    }

    /// Reads what the plan needs in one snapshot, and queues its actions.
    fn execute(&mut self, open: &mut Batch, plan: DocumentPlan, outside: &mut Outside) {
        let reads = |content: &Content| matches!(content, Content::Read(_));
        let read: Vec<usize> = plan
            .steps()
            .iter()
            .filter(|step| reads(&step.content))
            .map(|step| row_of(&step.document))
            .collect();
        if !plan.steps().is_empty() {
            self.embed(outside);
        }
        self.rendered_by_read(&read, outside);
        let parent = self.parent();
        for step in plan.into_steps().into_iter().rev() {
            let row = row_of(&step.document);
            let state = match step.content {
                Content::Image(number) => Some(open.changes[number].state),
                Content::Gone => None,
                Content::Read(_) => outside.source.row(row),
            };
            let content = state.map(|row| Shown { row, parent });
            let DocumentStep { version, jobs, .. } = step;
            open.work.push_front(Work::Send { row, content, version, jobs });
        }
    }

    fn fan_out(
        &mut self,
        open: &mut Batch,
        from: usize,
        jobs: Arc<[JobKey]>,
        highest: Position,
        outside: &mut Outside,
    ) {
        if from == 0 && outside.source.present(0).count() > self.fanout_rows_max {
            let rows = FanoutRows {
                changed: PARENT.to_owned(),
                table: "d".to_owned(),
                column: PARENT.to_owned(),
                path: false,
                values: None,
            };
            let groups = vec![FanoutGroup { highest, jobs }];
            open.pending.begin_fanout(BegunFanout { rows, groups });
            return;
        }
        let rows: Vec<usize> = outside.source.present(from).take(PAGE_ROWS).collect();
        let Some(last) = rows.last() else { return };
        let rest = Work::FanOut { from: last + 1, jobs: Arc::clone(&jobs), highest };
        open.work.push_front(rest);
        self.rewrite(open, &rows, &jobs, highest, outside);
    }

    /// Reads these rows, and queues the actions that rewrite their documents.
    pub(super) fn rewrite(
        &mut self,
        open: &mut Batch,
        rows: &[usize],
        jobs: &Arc<[JobKey]>,
        highest: Position,
        outside: &mut Outside,
    ) {
        self.embed(outside);
        self.rendered_by_read(rows, outside);
        let parent = self.parent();
        for row in rows.iter().rev() {
            let content = outside.source.row(*row).map(|row| Shown { row, parent });
            let jobs = smallvec![open.pending.group_reference(jobs)];
            let version = version_of(highest);
            open.work.push_front(Work::Send { row: *row, content, version, jobs });
        }
    }

    fn page(&mut self, open: &mut Batch, rows: &[usize], change: usize, outside: &mut Outside) {
        let BatchChange { job, position, .. } = open.changes[change];
        let mut plan = DocumentPlan::default();
        for row in rows {
            let document = document(*row);
            plan.touch(DocumentStep {
                content: Content::Read(Vec::from([document.id.to_string()])),
                document,
                source: source(*row),
                table: DOCUMENTS,
                version: version_of(position),
                jobs: smallvec![open.pending.reference(job)],
                unchanged: false,
            });
        }
        self.execute(open, plan, outside);
    }

    /// Reads the parent where the cache does not know it.
    fn embed(&mut self, outside: &Outside) {
        if !self.cache.knows(PARENTS, PARENT) {
            let row = Some(parent_row(outside.source.parent()));
            self.cache.insert(PARENTS, PARENT.to_owned(), row, outside.source.insert_lsn);
        }
    }

    fn parent(&self) -> u32 {
        let row = self.cache.row(PARENTS, PARENT).and_then(|row| row.at(0));
        let text = row.and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    fn rendered_by_read(&mut self, rows: &[usize], outside: &mut Outside) {
        if rows.is_empty() {
            return;
        }
        let snapshot_lsn = outside.source.insert_lsn;
        if snapshot_lsn > self.read_ahead {
            self.read_ahead = Lsn(snapshot_lsn.0 + READ_AHEAD_STEP);
            outside.queue.read_ahead = outside.queue.read_ahead.max(self.read_ahead);
        }
        rows.iter().for_each(|row| self.ahead.note(&document(*row), snapshot_lsn));
    }
}

fn row_of(document: &DocumentId) -> usize {
    document.id.parse().expect("documents are numbered")
}

fn parent_row(state: u32) -> Row {
    Row::parse(&format!(r#"{{"n":{state}}}"#), None).expect("it is a JSON object")
}
