//! Converts the tuples of a relation to rows. Pure.
//!
//! The columns are those of the stream's Relation message, not of the current catalog: rows from
//! before a DDL change are decoded with the columns that they had.
//!
//! Not here: the conversion of a single value (`value`).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::cut::Cutter;
use super::error::TransactionError;
use crate::change::{Columns, Row, TableId};
use crate::engine::wal::pgoutput;
use crate::engine::wal::pgoutput::{Tuple, Value};
use crate::value::{self, JsonCategory, TypeCache};

/// A larger row keeps the buffer that it was converted in, instead of a copy.
const COPIED_BYTES_MAX: usize = 1 << 20;

/// A configured table of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamTable {
    pub schema: String,
    pub name: String,
    /// Its object id, by which it is known while it has another name; `None` knows it by its name.
    pub oid: Option<u32>,
    /// The columns that the definition names.
    pub named: Vec<String>,
}

impl StreamTable {
    /// A table that is known by its name.
    #[must_use]
    pub fn by_name(schema: &str, name: &str) -> Self {
        Self { schema: schema.to_owned(), name: name.to_owned(), ..Self::default() }
    }
}

/// The configured tables. A table's position in the list is its [`TableId`].
#[derive(Clone, Debug, Default)]
pub struct Tables(Vec<StreamTable>);

impl Tables {
    /// In the definition's order.
    #[must_use]
    pub fn new(tables: Vec<StreamTable>) -> Self {
        Self(tables)
    }

    /// The configured table that a relation is.
    #[must_use]
    pub fn find(&self, oid: u32, schema: &str, name: &str) -> Option<TableId> {
        let is_it = |table: &StreamTable| match table.oid {
            Some(known) => known == oid,
            None => table.schema == schema && table.name == name,
        };
        u16::try_from(self.0.iter().position(is_it)?).ok().map(TableId)
    }

    /// Whether one of these object ids is that of a configured table.
    #[must_use]
    pub fn has_any(&self, oids: &[u32]) -> bool {
        self.0.iter().any(|table| table.oid.is_some_and(|oid| oids.contains(&oid)))
    }

    /// A configured table.
    #[must_use]
    pub fn get(&self, table: TableId) -> Option<&StreamTable> {
        self.0.get(usize::from(table.0))
    }
}

/// A configured table as the latest Relation message describes it.
#[derive(Debug)]
pub(crate) struct RelationDescriptor {
    pub(crate) table: TableId,
    /// The table has columns that the stream does not carry.
    pub(crate) partial: bool,
    columns: Arc<Columns>,
    converters: Vec<ColumnConverter>,
    row_bytes_max: usize,
}

/// Converts the values of one column.
#[derive(Debug)]
struct ColumnConverter {
    /// `,"name":`
    prefix: Vec<u8>,
    /// `None` for a type that is not in the catalog (any more): its values become strings.
    category: Option<Arc<JsonCategory>>,
    is_key: bool,
}

/// A column of which a value was replaced because `jsonb` does not accept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplacedValue {
    column: usize,
    reason: &'static str,
}

impl ReplacedValue {
    /// The type was altered after it was read: the row as it is now can be converted.
    pub(crate) fn is_of_an_altered_type(self) -> bool {
        self.reason == value::OTHER_FORM
    }
}

/// The part of a row that a tuple has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TupleKind<'a> {
    /// All values.
    Full,
    /// The columns of the replica identity; the others are sent as null.
    Key,
    /// A new row. Values that were not sent are those of the old row, if it is known.
    New(Option<&'a Row>),
}

impl<'a> TupleKind<'a> {
    /// The row that has the values which were not sent.
    fn old(self) -> Option<&'a Row> {
        match self {
            Self::New(old) => old,
            Self::Full | Self::Key => None,
        }
    }
}

/// A row, and whether it has all of its values.
pub(crate) struct DecodedRow {
    pub(crate) row: Row,
    pub(crate) complete: bool,
}

impl RelationDescriptor {
    pub(crate) fn new(
        table: TableId,
        relation: &pgoutput::Relation<'_>,
        types: &TypeCache,
        partial: bool,
        row_bytes_max: usize,
    ) -> Self {
        let names = relation.columns.iter().map(|column| column.name.to_owned()).collect();
        let converters = relation
            .columns
            .iter()
            .map(|column| {
                let mut prefix = vec![b','];
                value::write_string(column.name.as_bytes(), &mut prefix);
                prefix.push(b':');
                let category = types.get(column.type_oid);
                ColumnConverter { prefix, category, is_key: column.is_key }
            })
            .collect();
        let columns = Arc::new(Columns::new(names));
        Self { table, partial, columns, converters, row_bytes_max }
    }

    /// Converts a tuple to a row. `scratch` is a buffer that is reused.
    pub(crate) fn row(
        &self,
        tuple: Tuple<'_>,
        kind: TupleKind<'_>,
        scratch: &mut Vec<u8>,
        replaced: &mut Vec<ReplacedValue>,
    ) -> Result<DecodedRow, TransactionError> {
        if tuple.len() != self.converters.len() {
            return Err(TransactionError::ColumnCount {
                expected: self.converters.len(),
                found: tuple.len(),
            });
        }
        scratch.clear();
        scratch.push(b'{');
        let mut cutter = Cutter::of(tuple, kind.old(), self.row_bytes_max);
        let mut spans = Vec::with_capacity(self.converters.len());
        let mut complete = true;
        for (column, (converter, sent)) in self.converters.iter().zip(tuple.values()).enumerate() {
            if matches!(kind, TupleKind::Key) && !converter.is_key {
                spans.push(None);
                continue;
            }
            let old = match (sent, kind) {
                (Value::Unchanged, TupleKind::New(Some(old)))
                    if cutter.is_some() || old.cut_bytes(column).is_none() =>
                {
                    old.at(column)
                }
                _ => None,
            };
            if sent == Value::Unchanged && old.is_none() {
                complete = false;
                spans.push(None);
                continue;
            }
            // The first value has no comma before it.
            let prefix = converter.prefix.get(usize::from(scratch.len() == 1)..);
            scratch.extend_from_slice(prefix.unwrap_or_default());
            let start = scratch.len();
            let is_cut = cutter.as_mut().is_some_and(|cutter| cutter.cut(column, sent, scratch));
            if !is_cut && let Some(reason) = converter.write(sent, old, scratch)? {
                replaced.push(ReplacedValue { column, reason });
            }
            spans.push(Some(span(start, scratch, column, replaced)));
        }
        scratch.push(b'}');
        let json = match scratch.len() {
            0..=COPIED_BYTES_MAX => Bytes::copy_from_slice(scratch),
            _ => Bytes::from(std::mem::take(scratch)),
        };
        let mut row = Row::new(Arc::clone(&self.columns), json, spans);
        if let Some(cutter) = cutter {
            row = row.with_cut(cutter.found);
        }
        Ok(DecodedRow { row, complete })
    }

    /// The note of the job: the names of the columns with a replaced value, and the reasons.
    pub(crate) fn note(&self, replaced: &[ReplacedValue]) -> Option<Arc<str>> {
        if replaced.is_empty() {
            return None;
        }
        let mut note = String::new();
        for (index, one) in replaced.iter().enumerate() {
            if replaced.get(..index).is_some_and(|earlier| earlier.contains(one)) {
                continue; // already noted for the old row
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

impl ColumnConverter {
    /// Appends a value as JSON; `old` is the JSON of an unchanged one. Returns why the value was
    /// replaced, if it was.
    fn write(
        &self,
        sent: Value<'_>,
        old: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<Option<&'static str>, TransactionError> {
        match sent {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Unchanged => out.extend_from_slice(old.unwrap_or(b"null")),
            Value::Binary(_) => return Err(TransactionError::Binary),
            Value::Text(text) => match &self.category {
                Some(category) => {
                    return Ok(
                        value::write(category, text, out).map(|substitution| substitution.reason)
                    );
                }
                None => value::write_string(text, out),
            },
        }
        Ok(None)
    }
}

/// The span of the value just written. Escapes can multiply a value of 1 GiB by six: a value beyond
/// the range of spans is replaced by null, with a note.
fn span(
    start: usize,
    scratch: &mut Vec<u8>,
    column: usize,
    replaced: &mut Vec<ReplacedValue>,
) -> Range<u32> {
    if let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(scratch.len())) {
        return start..end;
    }
    replaced.push(ReplacedValue { column, reason: "too large to keep, left out" });
    scratch.truncate(start);
    scratch.extend_from_slice(b"null");
    // Only a name or a null can cross the limit, as PostgreSQL sends no row of 4 GiB.
    let end = u32::try_from(scratch.len()).unwrap_or(u32::MAX);
    u32::try_from(start).unwrap_or(u32::MAX)..end
}
