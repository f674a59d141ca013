//! Computes from the fields of all sources which rows embed which. Pure.
//!
//! Not here: the documents that one change affects (`engine::document::route`).

use super::definition::{Definition, Dependent, FieldValue, SourceId};
use crate::change::TableId;

/// A field's reference to a row of another table.
struct Reference<'a> {
    source: SourceId,
    /// The column that holds the referenced row's key.
    by: &'a str,
    /// The referenced row's table.
    table: TableId,
}

/// By table: the rows that embed its rows.
pub(super) fn dependents(definition: &Definition) -> Vec<Vec<Dependent>> {
    let mut all: Vec<Vec<Dependent>> = vec![Vec::new(); definition.tables.len()];
    for source in definition.sources() {
        for field in &definition.source(source).fields {
            match &field.value {
                FieldValue::Embed { table, by, columns, path } => {
                    let reference = Reference { source, by, table: *table };
                    add(definition, &mut all, &reference, Some(columns));
                    if path.is_some() {
                        add(definition, &mut all, &reference, None);
                    }
                }
                FieldValue::Path { table, start } => {
                    let reference = Reference { source, by: start, table: *table };
                    add(definition, &mut all, &reference, None);
                }
                _ => {}
            }
        }
    }
    all
}

/// `columns` for rows that show these of the referenced row, `None` for those that show its path.
fn add(
    definition: &Definition,
    all: &mut [Vec<Dependent>],
    reference: &Reference<'_>,
    columns: Option<&Vec<String>>,
) {
    let Reference { source, by, table: embedded } = *reference;
    let table = definition.source(source).table;
    let path = columns.is_none();
    let shown = match (columns, definition.tree(embedded)) {
        (Some(columns), _) => columns.clone(),
        (None, Some(tree)) => vec![tree.parent.clone(), tree.label.clone()],
        (None, None) => Vec::new(),
    };
    let list = &mut all[usize::from(embedded.0)];
    match list.iter_mut().find(|d| d.table == table && d.by == by && d.path == path) {
        Some(known) => {
            known.shown.extend(shown);
            known.shown.sort();
            known.shown.dedup();
            if !known.sources.contains(&source) {
                known.sources.push(source);
            }
        }
        None => {
            list.push(Dependent { table, by: by.to_owned(), shown, path, sources: vec![source] });
        }
    }
}
