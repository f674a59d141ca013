//! What is known of each relation, and how its tuples become rows. Pure.
//!
//! The stream's Relation message defines the columns, never the present catalog: rows of before a
//! DDL change are decoded as they were.
//!
//! Not here: the conversion of a single value (`value`).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::error::TransactionError;
use crate::change::{Columns, Row, TableId};
use crate::engine::wal::pgoutput;
use crate::engine::wal::pgoutput::{Tuple, Value};
use crate::value::{self, JsonCategory, TypeCache};

/// The configured tables. A table's place in the list is its [`TableId`].
#[derive(Clone, Debug, Default)]
pub struct Tables {
    names: Vec<(String, String)>,
}

impl Tables {
    /// From `(schema, name)` in the definition's order.
    #[must_use]
    pub fn new(names: Vec<(String, String)>) -> Self {
        Self { names }
    }

    /// The configured table of that name.
    #[must_use]
    pub fn find(&self, schema: &str, name: &str) -> Option<TableId> {
        let index = self.names.iter().position(|(s, n)| s == schema && n == name)?;
        u16::try_from(index).ok().map(TableId)
    }
}

/// A configured table's shape as the stream last told it.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) table: TableId,
    columns: Arc<Columns>,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    /// The name as JSON, and a colon.
    prefix: Vec<u8>,
    /// `None` for a type that the catalog does not know (any more): a string.
    kind: Option<Arc<JsonCategory>>,
    is_key: bool,
}

/// A column whose value had to be altered for `jsonb` to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Altered {
    column: usize,
    reason: &'static str,
}

/// How to take a tuple.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken<'a> {
    /// Every value counts.
    Whole,
    /// Only the replica identity's columns are values; the rest is sent as null.
    Key,
    /// A new row: what was not sent is in the old row, if anywhere.
    Over(Option<&'a Row>),
}

/// A row, and whether it has all of its values.
pub(crate) struct Written {
    pub(crate) row: Row,
    pub(crate) complete: bool,
}

impl Shape {
    pub(crate) fn new(
        table: TableId,
        relation: &pgoutput::Relation<'_>,
        kinds: &TypeCache,
    ) -> Self {
        let names = relation.columns.iter().map(|column| column.name.to_owned()).collect();
        let fields = relation
            .columns
            .iter()
            .map(|column| {
                let mut prefix = Vec::new();
                value::write_string(column.name.as_bytes(), &mut prefix);
                prefix.push(b':');
                Field { prefix, kind: kinds.get(column.type_oid), is_key: column.is_key }
            })
            .collect();
        Self { table, columns: Arc::new(Columns::new(names)), fields }
    }

    /// Writes a tuple as a row. `scratch` is only there to be used again.
    pub(crate) fn row(
        &self,
        tuple: Tuple<'_>,
        taken: Taken<'_>,
        scratch: &mut Vec<u8>,
        altered: &mut Vec<Altered>,
    ) -> Result<Written, TransactionError> {
        if tuple.len() != self.fields.len() {
            let (expected, found) = (self.fields.len(), tuple.len());
            return Err(TransactionError::ColumnCount { expected, found });
        }
        scratch.clear();
        scratch.push(b'{');
        let mut spans = Vec::with_capacity(self.fields.len());
        let mut complete = true;
        for (index, (field, sent)) in self.fields.iter().zip(tuple.values()).enumerate() {
            if matches!(taken, Taken::Key) && !field.is_key {
                spans.push(None);
                continue;
            }
            let before = scratch.len();
            if before > 1 {
                scratch.push(b',');
            }
            scratch.extend_from_slice(&field.prefix);
            let start = scratch.len();
            let reason = match sent {
                Value::Null => {
                    scratch.extend_from_slice(b"null");
                    None
                }
                Value::Text(text) => field.write(text, scratch),
                Value::Binary(_) => return Err(TransactionError::Binary),
                Value::Unchanged => {
                    let Taken::Over(Some(old)) = taken else {
                        complete = false;
                        scratch.truncate(before);
                        spans.push(None);
                        continue;
                    };
                    let Some(json) = old.at(index) else {
                        complete = false;
                        scratch.truncate(before);
                        spans.push(None);
                        continue;
                    };
                    scratch.extend_from_slice(json);
                    None
                }
            };
            if let Some(reason) = reason {
                altered.push(Altered { column: index, reason });
            }
            spans.push(Some(span(start, scratch, index, altered)));
        }
        scratch.push(b'}');
        let row = Row::new(Arc::clone(&self.columns), Bytes::copy_from_slice(scratch), spans);
        Ok(Written { row, complete })
    }

    /// For the audit row: which columns were altered, and why. Names only, no values.
    pub(crate) fn note(&self, altered: &[Altered]) -> Option<Arc<str>> {
        if altered.is_empty() {
            return None;
        }
        let mut note = String::new();
        for (index, one) in altered.iter().enumerate() {
            if altered.get(..index).is_some_and(|earlier| earlier.contains(one)) {
                continue; // the same of the old row and the new
            }
            if !note.is_empty() {
                note.push_str("; ");
            }
            note.push_str(self.columns.names().get(one.column).map_or("?", String::as_str));
            note.push_str(": ");
            note.push_str(one.reason);
        }
        Some(note.into())
    }
}

impl Field {
    fn write(&self, text: &[u8], out: &mut Vec<u8>) -> Option<&'static str> {
        match &self.kind {
            Some(kind) => value::write(kind, text, out).map(|poison| poison.reason),
            None => {
                value::write_string(text, out);
                None
            }
        }
    }
}

/// The span of the value just written. Escapes can make a gigabyte six: what spans cannot
/// address becomes null, with a note.
fn span(
    start: usize,
    scratch: &mut Vec<u8>,
    column: usize,
    altered: &mut Vec<Altered>,
) -> Range<u32> {
    if let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(scratch.len())) {
        return start..end;
    }
    altered.push(Altered { column, reason: "too large to keep, left out" });
    scratch.truncate(start);
    scratch.extend_from_slice(b"null");
    // Only a name or a null can lie across the limit, and rows of 4 GiB are not sent.
    let end = u32::try_from(scratch.len()).unwrap_or(u32::MAX);
    u32::try_from(start).unwrap_or(u32::MAX)..end
}
