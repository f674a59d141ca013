//! When the changes of a batch were committed.

use crate::change::{Change, TableId};

/// Rows' commit times in microseconds since 1970, so that partitions can be pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreatedBetween {
    pub min: i64,
    pub max: i64,
}

impl CreatedBetween {
    /// The first and the last commit time of these changes; zero where there are none.
    pub fn of<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        changes
            .map(|change| change.committed_at)
            .map(|at| Self { min: at, max: at })
            .reduce(|a, b| Self { min: a.min.min(b.min), max: a.max.max(b.max) })
            .unwrap_or_default()
    }
}

/// When the changes of a batch were committed, run-length encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commits(Vec<Committed>);

/// Consecutive changes of one table with one commit time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub table: TableId,
    /// In microseconds since 1970.
    pub at: i64,
    pub changes: u32,
}

impl Commits {
    /// The runs, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Committed> {
        self.0.iter()
    }

    /// The bytes on the heap.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.capacity() * size_of::<Committed>()
    }

    /// The commit times of these changes.
    pub fn of<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        let mut commits: Vec<Committed> = Vec::new();
        for change in changes {
            match commits.last_mut() {
                Some(last) if last.at == change.committed_at && last.table == change.table => {
                    last.changes += 1;
                }
                _ => commits.push(Committed {
                    table: change.table,
                    at: change.committed_at,
                    changes: 1,
                }),
            }
        }
        Self(commits)
    }
}
