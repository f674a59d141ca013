//! Changes and keys for the unit tests of this module.

use std::borrow::Cow;

use super::RowKeys;
use crate::change::{Change, Lsn, Operation, Position, Row, TableId};
use crate::engine::document::definition::Definition;

/// The key is the column `id`.
pub(super) struct ById;

impl RowKeys for ById {
    fn text<'r>(&self, _: TableId, row: &'r Row) -> Option<Cow<'r, str>> {
        row.text_at(row.columns().index_of("id")?)
    }
}

pub(super) fn change(
    definition: &Definition,
    table: &str,
    old: Option<&str>,
    new: Option<&str>,
) -> Change {
    let row = |json: &str| Row::parse(json, None).unwrap();
    Change {
        position: Position { commit_lsn: Lsn(8), ordinal: 0 },
        xid: 1,
        committed_at: 0,
        table: definition.table("public", table).unwrap(),
        operation: match (old, new) {
            (None, _) => Operation::Insert,
            (Some(_), Some(_)) => Operation::Update,
            (Some(_), None) => Operation::Delete,
        },
        old: old.map(row),
        new: new.map(row),
        incomplete: false,
        note: None,
    }
}
