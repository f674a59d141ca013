//! Writes a JSON object member by member into a buffer. Pure.

use crate::change::Row;
use crate::engine::document::layout::Member;

/// Writes one JSON object.
pub(super) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Writes the opening brace.
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Begins a member; the caller appends its value. `key` is `"name":`.
    pub(super) fn key(&mut self, key: &[u8]) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.extend_from_slice(key);
        self.out
    }

    /// Writes the members for which the row has a value.
    pub(super) fn members(&mut self, members: &[Member], row: &Row) {
        for member in members {
            if let Some(value) = row.at(member.column) {
                self.key(&member.key).extend_from_slice(value);
            }
        }
    }

    /// Copies the members of another object's text.
    pub(super) fn body(&mut self, object: &[u8]) {
        let object = object.trim_ascii();
        let inner = object.get(1..object.len().saturating_sub(1)).unwrap_or_default();
        if !inner.trim_ascii().is_empty() {
            self.key(inner);
        }
    }

    /// Writes the closing brace.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }
}
