//! A small PostgreSQL: rows, the WAL of their transactions, and one replication slot.
//!
//! A row's state is the number of the change that made it, from 1 in the order of commit. One
//! parent row is shown by every document.

use std::ops::Range;

use crate::change::{Lsn, Operation, Position};
use crate::engine::document::id::{lsn_of, version};

/// Rows that become documents.
pub(super) const ROWS: usize = 4;

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Row(usize),
    /// The row that all documents show.
    Parent,
    /// All rows: a TRUNCATE.
    Table,
}

/// A change as the stream has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceChange {
    pub(super) position: Position,
    pub(super) subject: Subject,
    pub(super) operation: Operation,
}

/// A committed transaction.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) commit_lsn: Lsn,
    pub(super) end_lsn: Lsn,
    /// The numbers of its changes, less one.
    pub(super) changes: Range<usize>,
}

/// A row as it is now.
#[derive(Clone, Debug)]
struct RowState {
    exists: bool,
    /// The number of its last change.
    state: u32,
    /// From which change to before which it was not there.
    absences: Vec<Range<u32>>,
}

impl RowState {
    fn appear(&mut self, state: u32) {
        self.exists = true;
        self.state = state;
        self.absences.last_mut().expect("it was not there").end = state;
    }

    fn vanish(&mut self, state: u32) {
        self.exists = false;
        self.state = state;
        self.absences.push(Range { start: state, end: u32::MAX });
    }
}

/// The tables, the WAL and the slot.
#[derive(Debug)]
pub(super) struct SourceModel {
    rows: [RowState; ROWS],
    parent: u32,
    pub(super) changes: Vec<SourceChange>,
    pub(super) transactions: Vec<Transaction>,
    pub(super) insert_lsn: Lsn,
    /// The slot's confirmed position.
    pub(super) confirmed: Lsn,
}

impl SourceModel {
    pub(super) fn new() -> Self {
        Self {
            rows: std::array::from_fn(|_| RowState {
                exists: false,
                state: 0,
                absences: Vec::from([Range { start: 0, end: u32::MAX }]),
            }),
            parent: 0,
            changes: Vec::with_capacity(64),
            transactions: Vec::with_capacity(32),
            insert_lsn: Lsn(1024),
            confirmed: Lsn(1024),
        }
    }

    /// Commits changes of these subjects in one transaction.
    pub(super) fn commit(&mut self, rng: &mut fastrand::Rng, subjects: &[Subject]) {
        let first = self.changes.len();
        let commit_lsn = Lsn(self.insert_lsn.0 + 8 * rng.u64(1..=8));
        for (ordinal, subject) in (0..).zip(subjects) {
            let operation = self.apply(rng, *subject);
            let position = Position { commit_lsn, ordinal };
            self.changes.push(SourceChange { position, subject: *subject, operation });
        }
        let end_lsn = Lsn(commit_lsn.0 + 8 * rng.u64(1..=4));
        let changes = first..self.changes.len();
        self.transactions.push(Transaction { commit_lsn, end_lsn, changes });
        self.insert_lsn = end_lsn;
    }

    /// Other databases and tables write WAL as well.
    pub(super) fn write_elsewhere(&mut self, bytes: u64) {
        self.insert_lsn.0 += bytes;
    }

    fn apply(&mut self, rng: &mut fastrand::Rng, subject: Subject) -> Operation {
        let state = u32::try_from(self.changes.len() + 1).expect("few changes");
        match subject {
            Subject::Row(row) => {
                let row = &mut self.rows[row];
                let operation = match row.exists {
                    false => Operation::Insert,
                    true if rng.u8(0..3) == 0 => Operation::Delete,
                    true => Operation::Update,
                };
                match operation {
                    Operation::Insert => row.appear(state),
                    Operation::Delete => row.vanish(state),
                    _ => row.state = state,
                }
                operation
            }
            Subject::Parent => {
                self.parent = state;
                Operation::Update
            }
            Subject::Table => {
                self.rows.iter_mut().filter(|row| row.exists).for_each(|row| row.vanish(state));
                Operation::Truncate
            }
        }
    }

    /// The row as it is now; `None` if it is not there.
    pub(super) fn row(&self, row: usize) -> Option<u32> {
        self.rows[row].exists.then_some(self.rows[row].state)
    }

    /// The rows from this one on that are there.
    pub(super) fn present(&self, from: usize) -> impl Iterator<Item = usize> {
        (from..ROWS).filter(|row| self.row(*row).is_some())
    }

    pub(super) fn parent(&self) -> u32 {
        self.parent
    }

    /// Since which change the row was not there, at the first moment after `state` at which it was
    /// not; `None` if it has been there ever since.
    pub(super) fn absent_since(&self, row: usize, state: u32) -> Option<u32> {
        let mut absences = self.rows[row].absences.iter();
        absences.find(|absence| absence.end > state).map(|absence| absence.start)
    }

    /// How many changes there are up to the one with this version.
    pub(super) fn state_at(&self, of_version: u64) -> u32 {
        let lsn = lsn_of(of_version, Lsn(0));
        let position = Position { commit_lsn: lsn, ordinal: of_version & 0xffff };
        assert_eq!(version(position, Lsn(0)), Some(of_version));
        let count = self.changes.partition_point(|change| change.position <= position);
        u32::try_from(count).expect("few changes")
    }

    /// The number of the change at a position, less one.
    pub(super) fn index_of(&self, position: Position) -> Option<usize> {
        self.changes.binary_search_by_key(&position, |change| change.position).ok()
    }

    /// The end of the last transaction.
    pub(super) fn last_end(&self) -> Lsn {
        self.transactions.last().map_or(Lsn(0), |last| last.end_lsn)
    }
}
