//! The vocabulary that every stage shares: positions, rows and changes.
//!
//! Values are JSON from the moment they are decoded, in exactly the form that PostgreSQL's
//! `to_jsonb` gives them, so that the audit row and the document are cut from the same bytes.
//!
//! Not here: where changes come from (`wal`), what becomes of them (`queue`, `document`).

mod lsn;
mod micros;
mod row;

use std::sync::Arc;

pub use lsn::{Lsn, ParseLsnError, Position};
pub use micros::Micros;
pub use row::{Columns, Row, RowError};

/// What happened to a row, or, for [`Operation::Truncate`], to a whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Operation {
    /// The word in the queue's `operation` column.
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

/// The number of a configured table: its index in the list of tables of the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub u16);

/// One row's new fact, in the order of commit.
#[derive(Clone, Debug)]
pub struct Change {
    /// Commit LSN and the change's number in its transaction.
    pub position: Position,
    /// The transaction, as the 32 bits that `Begin` carries (protocol section "Logical
    /// Replication Message Formats").
    pub xid: u32,
    /// The commit's time in microseconds since 1970-01-01 UTC.
    pub committed_at: i64,
    pub table: TableId,
    pub operation: Operation,
    /// The old row of an UPDATE or DELETE: whole under REPLICA IDENTITY FULL, else the key's
    /// columns where the key changed (UPDATE) or always (DELETE).
    pub old: Option<Row>,
    /// The new row of an INSERT or UPDATE.
    pub new: Option<Row>,
    /// The new row lacks values that the stream did not carry (unchanged TOAST without
    /// REPLICA IDENTITY FULL): its document must be read back.
    pub incomplete: bool,
    /// What had to be altered for `jsonb` to take the row, for the audit row; else `None`.
    pub note: Option<Arc<str>>,
}

impl Change {
    /// Bytes of row text held in memory: what batch and channel limits count.
    #[must_use]
    pub fn size(&self) -> usize {
        let of = |row: &Option<Row>| row.as_ref().map_or(0, Row::size);
        of(&self.old) + of(&self.new) + size_of::<Self>()
    }
}
