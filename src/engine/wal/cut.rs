//! Cuts the values of a row that is larger than `limits.row_bytes_max` to their size and hash. Pure.
//!
//! Such a row is recorded so, and its documents are refused. The row is never held: only the message
//! that it came in is.
//!
//! Not here: rows that are read back (`engine::feed::render::query`).

use super::pgoutput::{Tuple, Value};
use crate::change::{CutValues, Row};
use crate::value;

/// Cuts one row.
pub(super) struct Cutter<'a> {
    old: Option<&'a Row>,
    /// What has been cut so far.
    pub(super) found: CutValues,
}

impl<'a> Cutter<'a> {
    /// `None` if the row is not too large. Values that were not sent count as in the old row.
    pub(super) fn of(tuple: Tuple<'_>, old: Option<&'a Row>, bytes_max: usize) -> Option<Self> {
        let has_cut_old = old.is_some_and(|old| old.cut().is_some());
        if tuple.wire_bytes() <= bytes_max && !has_cut_old {
            return None;
        }
        let bytes = |(column, value): (usize, Value<'_>)| match value {
            Value::Text(text) | Value::Binary(text) => text.len(),
            Value::Unchanged => old.map_or(0, |old| {
                old.cut_bytes(column).or(old.at(column).map(<[u8]>::len)).unwrap_or(0)
            }),
            Value::Null => 0,
        };
        let row_bytes: usize = tuple.values().enumerate().map(bytes).sum();
        let found = CutValues { row_bytes, values: Vec::new() };
        (row_bytes > bytes_max).then_some(Self { old, found })
    }

    /// Writes a large value as its size and hash; false for any other, which is to be written as is.
    pub(super) fn cut(&mut self, column: usize, sent: Value<'_>, out: &mut Vec<u8>) -> bool {
        let bytes = match sent {
            Value::Text(text) if text.len() > CutValues::KEPT_BYTES_MAX => {
                value::write_digest(text, out);
                text.len()
            }
            Value::Unchanged => match self.old.and_then(|old| old.cut_bytes(column)) {
                Some(bytes) => {
                    let digest = self.old.and_then(|old| old.at(column));
                    out.extend_from_slice(digest.unwrap_or(b"null"));
                    bytes
                }
                None => return false,
            },
            _ => return false,
        };
        self.found.values.push((column, bytes));
        true
    }
}
