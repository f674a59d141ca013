//! Builds a document from a row and the rows that it embeds, by copying bytes of JSON. Pure.
//!
//! Not here: which documents a change affects (`engine::document::route`), and the cache of
//! embedded rows (`engine::feed::render::cache`).

mod object;
#[cfg(test)]
mod tests;

use foldhash::HashMap;
use smallvec::SmallVec;

use self::object::ObjectWriter;
use super::definition::{Definition, DocumentSource, SourceId};
use super::layout::{Layout, PerShape, TreeLayout, ValueLayout, members};
use super::suggest;
use crate::change::{Row, TableId};

/// The rows that documents embed.
pub trait Embedded {
    /// The row with this key, if it exists. Equal keys yield equal references: the detection of a
    /// cycle in a path compares them.
    fn row(&self, table: TableId, key: &str) -> Option<&Row>;
}

/// Whether a row has a document in this source.
#[must_use]
pub fn included(source: &DocumentSource, row: &Row) -> bool {
    source.include.iter().all(|include| {
        row.get(&include.column).is_some_and(|value| include.values.iter().any(|v| v == value))
    })
}

/// Builds documents. Keeps the layouts of the latest shapes of rows.
#[derive(Debug, Default)]
pub struct Builder {
    layouts: HashMap<SourceId, PerShape<Layout>>,
    trees: HashMap<TableId, PerShape<TreeLayout>>,
}

impl Builder {
    /// Appends the document of a row to `out`, as one line of JSON.
    pub fn build(
        &mut self,
        definition: &Definition,
        id: SourceId,
        row: &Row,
        embedded: &dyn Embedded,
        out: &mut Vec<u8>,
    ) {
        let from = out.len();
        let layouts = self.layouts.entry(id).or_default();
        let layout =
            layouts.get(row.columns(), |columns| Layout::new(definition.source(id), columns));
        let tables = EmbeddedTables { definition, embedded, trees: &mut self.trees };
        write_document(layout, row, tables, out);
        replace_line_feeds(out.get_mut(from..).unwrap_or_default());
    }
}

/// The rows that a document may embed, and the layouts of their trees.
struct EmbeddedTables<'a> {
    definition: &'a Definition,
    embedded: &'a dyn Embedded,
    trees: &'a mut HashMap<TableId, PerShape<TreeLayout>>,
}

impl<'a> EmbeddedTables<'a> {
    /// The row that a column of `row` refers to.
    fn referenced(&self, table: TableId, row: &Row, column: Option<usize>) -> Option<&'a Row> {
        self.embedded.row(table, &row.text_at(column?)?)
    }

    /// Writes the labels from the root down to a row, as a JSON array. The path ends at a row that
    /// does not exist and before a row that it already has.
    fn write_path(&mut self, table: TableId, start: Option<&'a Row>, out: &mut Vec<u8>) {
        let mut up: SmallVec<[(&Row, &[u8]); 8]> = SmallVec::new();
        if let Some(tree) = self.definition.tree(table) {
            let layouts = self.trees.entry(table).or_default();
            let mut next = start;
            while let Some(row) =
                next.filter(|row| !up.iter().any(|(seen, _)| std::ptr::eq(*seen, *row)))
            {
                let at = *layouts.get(row.columns(), |columns| TreeLayout::new(tree, columns));
                up.push((row, at.label.and_then(|label| row.at(label)).unwrap_or(b"null")));
                let parent = at.parent.and_then(|parent| row.text_at(parent));
                next = parent.and_then(|key| self.embedded.row(table, &key));
            }
        }
        out.push(b'[');
        for (depth, (_, label)) in up.iter().rev().enumerate() {
            if depth > 0 {
                out.push(b',');
            }
            out.extend_from_slice(label);
        }
        out.push(b']');
    }
}

fn write_document(
    layout: &mut Layout,
    row: &Row,
    mut tables: EmbeddedTables<'_>,
    out: &mut Vec<u8>,
) {
    let mut object = ObjectWriter::begin(out);
    if layout.whole && row.is_complete() {
        object.body(row.json());
    } else {
        object.members(&layout.columns, row);
    }
    for (key, value) in &mut layout.fields {
        write_field(key, value, row, &mut tables, &mut object);
    }
    object.end();
}

fn write_field(
    key: &[u8],
    value: &mut ValueLayout,
    row: &Row,
    tables: &mut EmbeddedTables<'_>,
    object: &mut ObjectWriter<'_>,
) {
    match value {
        ValueLayout::Column(column) => {
            if let Some(value) = row.at(*column) {
                object.key(key).extend_from_slice(value);
            }
        }
        ValueLayout::Constant(json) => object.key(key).extend_from_slice(json),
        ValueLayout::Geo { lat, lon } => {
            let set = |column| row.at(column).filter(|value| *value != b"null");
            if let (Some(lat), Some(lon)) = (set(*lat), set(*lon)) {
                let out = object.key(key);
                for part in [br#"{"lat":"#, lat, br#","lon":"#, lon, b"}"] {
                    out.extend_from_slice(part);
                }
            }
        }
        ValueLayout::Embed { table, by, columns, path, members: layouts } => {
            let out = object.key(key);
            let Some(embedded) = tables.referenced(*table, row, *by) else {
                out.extend_from_slice(b"null");
                return;
            };
            let layout = layouts.get(embedded.columns(), |shape| members(columns, shape));
            let mut inner = ObjectWriter::begin(out);
            inner.members(layout, embedded);
            if let Some(path) = path {
                tables.write_path(*table, Some(embedded), inner.key(path));
            }
            inner.end();
        }
        ValueLayout::Path { table, start } => {
            let start = tables.referenced(*table, row, *start);
            tables.write_path(*table, start, object.key(key));
        }
        ValueLayout::Suggest { input, weight } => {
            let values = input.iter().filter_map(|column| row.at(*column));
            suggest::write(values, *weight, object.key(key));
        }
    }
}

/// Replaces line feeds by spaces: a line feed in a bulk request ends the document. JSON text has
/// line feeds only where it may have spaces.
fn replace_line_feeds(json: &mut [u8]) {
    let mut rest = json;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        rest[at] = b' ';
        rest = &mut rest[at..];
    }
}
