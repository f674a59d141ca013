//! Which rows show which: from the fields of all sources, once. Pure.
//!
//! Not here: whose documents one change rewrites (`engine::document::route`).

use super::definition::{Definition, Dependent, FieldValue, SourceId};
use crate::change::TableId;

/// Who shows whose rows, from the fields of all sources.
pub(super) fn dependents(definition: &Definition) -> Vec<Vec<Dependent>> {
    let mut all: Vec<Vec<Dependent>> = vec![Vec::new(); definition.tables.len()];
    for id in definition.sources() {
        let source = definition.source(id);
        for field in &source.fields {
            match &field.value {
                FieldValue::Embed { table, by, columns, path } => {
                    add(definition, &mut all, (*table, id, by), Some(columns));
                    if path.is_some() {
                        add(definition, &mut all, (*table, id, by), None);
                    }
                }
                FieldValue::Path { table, start } => {
                    add(definition, &mut all, (*table, id, start), None);
                }
                _ => {}
            }
        }
    }
    all
}

/// `columns` for rows that show these of the row itself, `None` for those that show its path.
fn add(
    definition: &Definition,
    all: &mut [Vec<Dependent>],
    (shown_table, id, by): (TableId, SourceId, &str),
    columns: Option<&Vec<String>>,
) {
    let table = definition.source(id).table;
    let path = columns.is_none();
    let tree = definition.tree(shown_table);
    let shown = match (columns, tree) {
        (Some(columns), _) => columns.clone(),
        (None, Some(tree)) => vec![tree.parent.clone(), tree.label.clone()],
        (None, None) => Vec::new(),
    };
    let list = &mut all[usize::from(shown_table.0)];
    match list.iter_mut().find(|d| d.table == table && d.by == by && d.path == path) {
        Some(known) => {
            known.shown.extend(shown);
            known.shown.sort();
            known.shown.dedup();
            if !known.sources.contains(&id) {
                known.sources.push(id);
            }
        }
        None => list.push(Dependent { table, by: by.to_owned(), shown, path, sources: vec![id] }),
    }
}
