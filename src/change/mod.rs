//! The data types that all stages share: positions, rows and changes.
//!
//! Column values are stored as JSON in the form that PostgreSQL's `to_jsonb` returns. The audit
//! row and the document are both taken from these bytes.
//!
//! Not here: decoding changes (`engine::wal`), recording them (`engine::recorder`) and building
//! documents from them (`engine::document`).

mod lsn;
mod micros;
mod row;

use std::sync::Arc;

pub use lsn::{Lsn, ParseLsnError, Position};
pub use micros::Micros;
pub use row::{Columns, CutValues, Row, RowError};

/// The operation of a change. [`Operation::Truncate`] applies to a whole table, the others to
/// one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// The value of the queue table's column `operation`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
        }
    }
}

/// An old row of more than this is not kept whole after it has been recorded.
const LARGE_ROW_BYTES: usize = 1 << 20;

/// The index of a configured table in the definition's list of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub u16);

/// A change of one row, or the truncation of one table, as decoded from the stream.
#[derive(Clone, Debug)]
pub struct Change {
    /// The position in commit order.
    pub position: Position,
    /// The transaction id without its epoch, from `Begin` (protocol section "Logical Replication
    /// Message Formats"). 0 in a claimed job, which has all 64 bits itself.
    pub xid: u32,
    /// The commit timestamp in microseconds since 1970-01-01 UTC, from `Begin`.
    pub committed_at: i64,
    /// The table that was changed.
    pub table: TableId,
    /// The operation.
    pub operation: Operation,
    /// The old row of an UPDATE or DELETE. Under `REPLICA IDENTITY FULL` it holds all columns.
    /// Otherwise it holds the columns of the replica identity only, and an UPDATE has an old row
    /// only if one of those columns changed.
    pub old: Option<Row>,
    /// The new row of an INSERT or UPDATE.
    pub new: Option<Row>,
    /// True if the new row lacks values: the stream omits unchanged TOASTed values unless the
    /// table has `REPLICA IDENTITY FULL`. The document of such a row is built from a read of the
    /// table.
    pub incomplete: bool,
    /// Which values were replaced because `jsonb` rejects them, for the audit row.
    pub note: Option<Arc<str>>,
}

impl Change {
    /// Drops the large values of a large old row, once they are recorded: what follows needs its keys
    /// and conditions only.
    pub fn lighten(&mut self) {
        if let Some(old) = self.old.as_mut().filter(|old| old.size() > LARGE_ROW_BYTES) {
            *old = old.lightened();
        }
    }

    /// The size in memory in bytes. The limits of batches and channels count this size.
    #[must_use]
    pub fn size(&self) -> usize {
        let row_size = |row: &Option<Row>| row.as_ref().map_or(0, Row::size);
        row_size(&self.old) + row_size(&self.new) + size_of::<Self>()
    }
}
