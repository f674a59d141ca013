//! The column indexes of a source's fields in rows of one shape, computed once a shape. Pure.
//!
//! Not here: writing documents (`engine::document::build`).

use std::sync::Arc;

use super::definition::{Base, DocumentSource, FieldValue, Tree};
use crate::change::{Columns, TableId};
use crate::value::write_string;

/// Shapes kept in memory. Rows of one table have one shape on the stream, another one in reads, and
/// a new one after DDL.
const SHAPES_MAX: usize = 4;

/// A value computed for each of the last few shapes of rows.
#[derive(Debug)]
pub(super) struct PerShape<T> {
    known: Vec<(Arc<Columns>, T)>,
}

impl<T> Default for PerShape<T> {
    fn default() -> Self {
        Self { known: Vec::new() }
    }
}

impl<T> PerShape<T> {
    pub(super) fn get(
        &mut self,
        columns: &Arc<Columns>,
        make: impl FnOnce(&Columns) -> T,
    ) -> &mut T {
        let known = self.known.iter().position(|(shape, _)| Arc::ptr_eq(shape, columns));
        let index = known.unwrap_or_else(|| {
            if self.known.len() == SHAPES_MAX {
                self.known.remove(0);
            }
            self.known.push((Arc::clone(columns), make(columns)));
            self.known.len() - 1
        });
        &mut self.known[index].1
    }
}

/// A member of an object.
#[derive(Debug)]
pub(super) struct Member {
    /// The value's column in the row.
    pub(super) column: usize,
    /// `"name":`
    pub(super) key: Vec<u8>,
}

/// One source's fields in rows of one shape.
#[derive(Debug)]
pub(super) struct Layout {
    /// Every column is a field, so the row's text is copied unchanged.
    pub(super) whole: bool,
    /// The columns that are fields under their own names.
    pub(super) columns: Vec<Member>,
    /// The computed fields, each with its `"name":`.
    pub(super) fields: Vec<(Vec<u8>, ValueLayout)>,
}

/// The column indexes of a computed field's value.
#[derive(Debug)]
pub(super) enum ValueLayout {
    Column(usize),
    Constant(Vec<u8>),
    Geo {
        lat: usize,
        lon: usize,
    },
    Embed {
        table: TableId,
        by: Option<usize>,
        columns: Vec<String>,
        /// `"path":`
        path: Option<Vec<u8>>,
        members: PerShape<Vec<Member>>,
    },
    Path {
        table: TableId,
        start: Option<usize>,
    },
    Suggest {
        input: Vec<usize>,
        weight: u32,
    },
}

/// The column indexes of a tree in its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeLayout {
    pub(super) parent: Option<usize>,
    pub(super) label: Option<usize>,
}

impl Layout {
    pub(super) fn new(source: &DocumentSource, columns: &Columns) -> Self {
        let replaced = |name: &str| source.fields.iter().any(|field| field.name == name);
        let kept = match &source.base {
            Base::Nothing => Vec::new(),
            Base::AllExcept(except) => {
                let names = columns.names().iter().enumerate();
                names
                    .filter(|(_, name)| !except.contains(name) && !replaced(name))
                    .map(|(column, name)| Member { column, key: key(name) })
                    .collect()
            }
        };
        let fields = source.fields.iter();
        Self {
            whole: kept.len() == columns.names().len(),
            columns: kept,
            fields: fields
                .filter_map(|field| Some((key(&field.name), value(&field.value, columns)?)))
                .collect(),
        }
    }
}

impl TreeLayout {
    pub(super) fn new(tree: &Tree, columns: &Columns) -> Self {
        Self { parent: columns.index_of(&tree.parent), label: columns.index_of(&tree.label) }
    }
}

/// The members for the named columns, in the order of the names.
pub(super) fn members(names: &[String], columns: &Columns) -> Vec<Member> {
    let member = |name: &String| Some(Member { column: columns.index_of(name)?, key: key(name) });
    names.iter().filter_map(member).collect()
}

/// `None` if rows of this shape lack the field's columns.
fn value(value: &FieldValue, columns: &Columns) -> Option<ValueLayout> {
    let index = |name: &String| columns.index_of(name);
    Some(match value {
        FieldValue::Column(column) => ValueLayout::Column(index(column)?),
        FieldValue::Constant(json) => ValueLayout::Constant(json.clone().into_bytes()),
        FieldValue::Geo { lat, lon } => ValueLayout::Geo { lat: index(lat)?, lon: index(lon)? },
        FieldValue::Embed { table, by, columns, path } => ValueLayout::Embed {
            table: *table,
            by: index(by),
            columns: columns.clone(),
            path: path.as_deref().map(key),
            members: PerShape::default(),
        },
        FieldValue::Path { table, start } => {
            ValueLayout::Path { table: *table, start: index(start) }
        }
        FieldValue::Suggest { input, weight } => ValueLayout::Suggest {
            input: input.iter().filter_map(index).collect(),
            weight: *weight,
        },
    })
}

/// `"name":`
fn key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 3);
    write_string(name.as_bytes(), &mut key);
    key.push(b':');
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_computed_once_while_it_is_kept() {
        let shapes: Vec<Arc<Columns>> =
            (0..=SHAPES_MAX).map(|_| Arc::new(Columns::new(Vec::new()))).collect();
        let mut per_shape = PerShape::default();
        let mut made = 0;
        let mut get = |shape: &Arc<Columns>| {
            per_shape.get(shape, |_| made += 1);
            made
        };
        let [first, .., last] = shapes.as_slice() else { unreachable!() };
        assert_eq!((get(first), get(first)), (1, 1));
        for shape in &shapes {
            get(shape);
        }
        assert_eq!(get(last), shapes.len());
        assert_eq!(get(first), shapes.len() + 1, "the oldest was forgotten");
    }
}
