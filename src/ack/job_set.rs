//! Which jobs of the queue a batch consists of, and the key of one job.

use crate::change::Position;

/// Which rows of the queue a batch stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobSet {
    /// Rows that the recorder has just written: all of this slot's from one position to another.
    Range { first: Position, last: Position },
    /// Rows claimed from the table, by `id`.
    Ids(Vec<i64>),
    /// No rows: the batch only keeps its place in the order of settlement.
    None,
}

impl JobSet {
    /// The bytes on the heap.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Ids(ids) => ids.capacity() * size_of::<i64>(),
            Self::Range { .. } | Self::None => 0,
        }
    }
}

/// Identifies one job of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKey {
    At(Position),
    Id(i64),
    /// A row of the first load, by its number in the chunk. It has no job unless it is refused.
    Loaded(u16),
}
