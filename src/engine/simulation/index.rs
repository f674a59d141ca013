//! A small Elasticsearch: two indices with external versions, tombstones that are forgotten, and
//! requests that arrive after their sender has given them up. It asserts that no document moves
//! back.

use super::source::{ROWS, SourceModel};

/// The names of the indices; each has half of the rows.
pub(super) const INDICES: [&str; 2] = ["d", "e"];

/// The index of a row's document, by its place in [`INDICES`].
pub(super) fn index_of(row: usize) -> usize {
    row * INDICES.len() / ROWS
}

/// A document's content: the states of its row and of the parent that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) row: u32,
    pub(super) parent: u32,
}

impl Shown {
    pub(super) fn to_bytes(self) -> bytes::Bytes {
        let [row, parent] = [self.row, self.parent].map(u32::to_le_bytes);
        bytes::Bytes::from([row, parent].concat())
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let part = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        Self { row: part(0), parent: part(4) }
    }
}

/// One write of one document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) row: usize,
    pub(super) version: u64,
    pub(super) content: Option<Shown>,
}

/// A document, or the tombstone of one.
#[derive(Clone, Copy, Debug, Default)]
struct Document {
    /// `None`: Elasticsearch knows nothing of it.
    version: Option<u64>,
    content: Option<Shown>,
    /// When the tombstone is forgotten.
    forgotten_at: u64,
    /// The newest states that it ever had.
    newest: u32,
    newest_parent: u32,
    /// So many index actions on it are refused.
    refusals: u32,
}

/// The indices.
#[derive(Debug)]
pub(super) struct IndexModel {
    documents: [Document; ROWS],
    /// Whether it takes requests.
    pub(super) is_up: bool,
    /// Whether the last index refuses all writes.
    pub(super) is_blocked: bool,
    /// How long a tombstone is kept, in milliseconds.
    pub(super) tombstones_for: u64,
    /// The epoch of the write alias: actions of another are refused. (A delete names the index
    /// itself. One of a dead process that arrives later may hide a document until the change that
    /// made its row again is indexed; no schedule has that.)
    pub(super) epoch: u64,
}

impl IndexModel {
    pub(super) fn new(tombstones_for: u64) -> Self {
        let documents = [Document::default(); ROWS];
        Self { documents, is_up: true, is_blocked: false, tombstones_for, epoch: 0 }
    }

    /// Applies one write of a process of this epoch; returns the status.
    pub(super) fn apply(
        &mut self,
        source: &SourceModel,
        now: u64,
        epoch: u64,
        write: Write,
    ) -> u16 {
        let Write { row, version, content } = write;
        let document = &mut self.documents[row];
        if document.content.is_none() && document.forgotten_at <= now {
            document.version = None;
        }
        if self.is_blocked && index_of(row) + 1 == INDICES.len() {
            return 403;
        }
        if epoch != self.epoch {
            return 400;
        }
        if content.is_some() && document.refusals > 0 {
            document.refusals -= 1;
            return 400;
        }
        if document.version.is_some_and(|present| version < present) {
            return 409;
        }
        let was_there = document.content.is_some();
        let floor = document.newest;
        match content {
            Some(Shown { row: state, parent }) => {
                assert!(state >= floor, "document {row} goes back from {floor} to {state}");
                let shown = document.newest_parent;
                assert!(parent >= shown, "document {row} shows parent {parent} after {shown}");
                document.newest = state;
                document.newest_parent = parent;
            }
            None => {
                let since = source.absent_since(row, floor.max(source.state_at(version)));
                let since =
                    since.unwrap_or_else(|| panic!("document {row} is deleted, its row is there"));
                document.newest = floor.max(since);
                document.forgotten_at = now + self.tombstones_for;
            }
        }
        document.version = Some(version);
        document.content = content;
        match (content, was_there) {
            (None, false) => 404,
            (Some(_), false) => 201,
            _ => 200,
        }
    }

    /// The next index actions on a document are refused.
    pub(super) fn refuse(&mut self, row: usize, times: u32) {
        self.documents[row].refusals = times;
    }

    /// Every document is taken again.
    pub(super) fn refuse_none(&mut self) {
        self.documents.iter_mut().for_each(|document| document.refusals = 0);
    }

    /// The document as searches find it.
    pub(super) fn content(&self, row: usize) -> Option<Shown> {
        self.documents[row].content
    }

    /// The newest state of the document's row that was ever applied.
    pub(super) fn newest(&self, row: usize) -> u32 {
        self.documents[row].newest
    }

    /// The version of a document, or of its tombstone.
    pub(super) fn version(&self, row: usize) -> Option<u64> {
        self.documents[row].version
    }

    /// The documents that a listing finds.
    pub(super) fn listed(&self) -> Vec<usize> {
        (0..ROWS).filter(|row| self.documents[*row].content.is_some()).collect()
    }
}
