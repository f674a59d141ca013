//! The definition against the tables' columns. Pure.

use std::collections::BTreeSet;

use super::name::{label, nearest};
use crate::change::TableId;
use crate::engine::document::definition::{Base, Definition, DocumentSource};
use crate::engine::preflight::facts::{Facts, TableFacts};
use crate::engine::preflight::finding::Finding;

/// Fields that Elasticsearch keeps for itself at the top of a document.
const RESERVED: [&str; 10] = [
    "_id",
    "_index",
    "_source",
    "_routing",
    "_version",
    "_seq_no",
    "_ignored",
    "_field_names",
    "_nested_path",
    "_tier",
];

/// The findings about columns that the definition names, and about fields that no document can have.
pub(in crate::engine::preflight) fn definition(facts: &Facts, findings: &mut Vec<Finding>) {
    let Some(definition) = &facts.definition else { return };
    for (number, table) in (0..).map(TableId).zip(&facts.tables) {
        if !table.exists || !table.is_table {
            continue;
        }
        for column in definition.columns_named(number) {
            if table.column(column).is_none() {
                findings.push(lacking(definition, number, table, column));
            }
        }
        for field in unusable(definition, number, table) {
            findings.push(Finding::fault(
                format!("column {field} of table {} cannot be a field", label(&table.name)),
                "Elasticsearch refuses every document with a field of that name",
                format!(
                    "add {field:?} to `except` of the table's sources, and show the column under \
                     another name with a `field`"
                ),
            ));
        }
    }
}

fn lacking(definition: &Definition, number: TableId, table: &TableFacts, column: &str) -> Finding {
    let is_excepted = |source: &DocumentSource| match &source.base {
        Base::AllExcept(except) => {
            source.table == number && except.iter().any(|name| name == column)
        }
        Base::Nothing => false,
    };
    let mut sources = definition.indices.iter().flat_map(|index| &index.sources);
    let why = if sources.any(is_excepted) {
        "the definition keeps it out of documents; under another name it would be published"
    } else {
        "the definition names it; without it, documents would be wrong or deleted"
    };
    let names = table.columns.iter().map(|column| column.name.as_str());
    let remedy = match nearest(column, names) {
        Some(near) => format!(
            "write {near:?} instead of {column:?} in the definition, if that is meant; or create \
             the column, or rename it back"
        ),
        None => {
            format!("take {column:?} out of the definition, or create or rename the column back")
        }
    };
    Finding::fault(
        format!("column {column} of table {} does not exist", label(&table.name)),
        why,
        remedy,
    )
}

/// The columns that become fields of names that Elasticsearch refuses.
fn unusable(definition: &Definition, number: TableId, table: &TableFacts) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for source in definition.indices.iter().flat_map(|index| &index.sources) {
        let Base::AllExcept(except) = &source.base else { continue };
        if source.table != number {
            continue;
        }
        let is_field = |name: &String| {
            !except.contains(name) && !source.fields.iter().any(|field| field.name == *name)
        };
        let names = table.columns.iter().map(|column| &column.name);
        fields.extend(names.filter(|name| is_field(name) && is_refused(name)).cloned());
    }
    fields
}

/// Whether Elasticsearch refuses a field of this name: one of its own, or one whose parts between
/// dots, which it takes for objects, are not all names.
fn is_refused(name: &str) -> bool {
    RESERVED.contains(&name) || name.split('.').any(|part| part.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::is_refused;

    #[test]
    fn names_that_no_field_can_have() {
        for name in ["_id", "_seq_no", " ", ".a", "a.", "a..b"] {
            assert!(is_refused(name), "{name:?}");
        }
        for name in ["id", "_score_of_mine", "a.b", "ad soyad"] {
            assert!(!is_refused(name), "{name:?}");
        }
    }
}
