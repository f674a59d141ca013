//! The types of keys, and of the columns that refer to keys. Pure.
//!
//! A type serves as a key if equal values have one text in `to_jsonb`, that text cast to the type is
//! the value again, and `order by` and `=` agree: rows are listed, read back and embedded by it
//! (`document::shape`). To admit another type:
//!
//! 1. `preflight/gather_columns.sql`: its class no longer is `unfit_for_keys`.
//! 2. [`same_text`]: which other types a referring column may have.
//! 3. `document/shape.rs`, [`ColumnType::parameter_type`]: the cast, if it is not the type itself.
//! 4. Only if its `record_id` is to be the key itself, as for `uuid`: `TableShape::has_uuid_key` in
//!    `document/shape.rs` with its callers, and `TableKey::record_id` in `storage/queue/record_id.rs`.
//! 5. Tests: the refused types in `tests/scenarios/source.rs`, records by key in `tests/admin.rs`.
//!
//! [`ColumnType::parameter_type`]: crate::engine::document::shape::ColumnType::parameter_type

use super::name::label;
use crate::engine::document::definition::{Definition, FieldValue};
use crate::engine::preflight::facts::{ColumnFacts, Facts, TableFacts};
use crate::engine::preflight::finding::Finding;

/// `smallint`, `integer`, `bigint`: compared across their widths.
const INTEGERS: [u32; 3] = [21, 23, 20];
/// `text`, `varchar`, `name`: compared by their text.
const TEXTS: [u32; 3] = [25, 1043, 19];
const BPCHAR: u32 = 1042;
const NUMERIC: u32 = 1700;

/// A column whose values are looked up as keys.
struct KeyReference<'f> {
    from: &'f TableFacts,
    column: &'f str,
    to: &'f TableFacts,
}

/// The findings about types that cannot be keys, and about references that find no key.
pub(in crate::engine::preflight) fn keys(facts: &Facts, findings: &mut Vec<Finding>) {
    for table in facts.tables.iter().filter(|table| table.exists) {
        for column in table.columns.iter().filter(|column| column.in_key) {
            if let Some(why) = unfit(column) {
                findings.push(Finding::fault(
                    format!(
                        "key column {} of table {} has the type {}",
                        column.name,
                        label(&table.name),
                        column.type_name
                    ),
                    why,
                    "-- choose a primary key of another type, such as uuid, bigint or text, or leave \
                     the table out of the definition",
                ));
            }
        }
    }
    let Some(definition) = &facts.definition else { return };
    for reference in references(facts, definition) {
        refers(&reference, findings);
    }
}

/// Why rows could not be found and listed by such a column; `None` where they can.
fn unfit(column: &ColumnFacts) -> Option<&'static str> {
    match column.unfit_for_keys.as_str() {
        "composite" | "array" | "json" => {
            Some("keys are compared by their text, which a value of this type has no one form of")
        }
        "extension" => Some(
            "its comparison is an extension's, which need not be that of the text of its values; \
             rows would be left out",
        ),
        "collation" => Some(
            "its collation takes different texts for equal, so rows cannot be told apart by their \
             text",
        ),
        _ => None,
    }
}

fn references<'f>(facts: &'f Facts, definition: &'f Definition) -> Vec<KeyReference<'f>> {
    let mut references: Vec<KeyReference<'f>> = Vec::new();
    let mut add = |from, column: &'f str, to| {
        let table = |number: crate::change::TableId| facts.tables.get(usize::from(number.0));
        if let (Some(from), Some(to)) = (table(from), table(to))
            && !references
                .iter()
                .any(|r| r.from.name == from.name && r.column == column && r.to.name == to.name)
        {
            references.push(KeyReference { from, column, to });
        }
    };
    for source in definition.indices.iter().flat_map(|index| &index.sources) {
        for field in &source.fields {
            let (to, column, path) = match &field.value {
                FieldValue::Embed { table, by, path, .. } => (*table, by, path.is_some()),
                FieldValue::Path { table, start } => (*table, start, true),
                _ => continue,
            };
            add(source.table, column, to);
            if let Some(tree) = definition.tree(to).filter(|_| path) {
                add(to, &tree.parent, to);
            }
        }
    }
    references
}

fn refers(reference: &KeyReference<'_>, findings: &mut Vec<Finding>) {
    let KeyReference { from, column, to } = reference;
    let mut key = to.columns.iter().filter(|column| column.in_key);
    let (Some(referring), Some(first)) = (from.column(column), key.next()) else { return };
    let from = label(&from.name);
    let to = label(&to.name);
    if key.next().is_some() {
        findings.push(Finding::fault(
            format!(
                "{column} of table {from} is one column, and the key of table {to} has several"
            ),
            "rows are embedded by the whole key",
            "-- leave the field out of the definition",
        ));
    } else if !same_text(referring, first) {
        findings.push(Finding::fault(
            format!(
                "{column} of table {from} is {}, and the key {} of table {to} is {}",
                referring.type_name, first.name, first.type_name
            ),
            "rows are embedded by the text of their keys, and equal values of these types differ in \
             text, or do not fit the other type",
            "-- give both columns one type, or leave the field out of the definition",
        ));
    }
}

/// Whether equal values of the two columns have the same text, and each fits the other's type.
fn same_text(one: &ColumnFacts, other: &ColumnFacts) -> bool {
    let both = |types: &[u32]| types.contains(&one.base_type) && types.contains(&other.base_type);
    let same_modifier = one.modifier == other.modifier;
    match one.base_type {
        _ if both(&INTEGERS) || both(&TEXTS) => true,
        BPCHAR => one.base_type == other.base_type && same_modifier,
        NUMERIC => {
            let scale = |column: &ColumnFacts| column.modifier.wrapping_sub(4) & 0x7ff;
            let fixed = one.modifier >= 0 && other.modifier >= 0;
            other.base_type == NUMERIC && fixed && scale(one) == scale(other)
        }
        _ => one.base_type == other.base_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_of_one_text_refer_to_each_other() {
        let column =
            |(base_type, modifier)| ColumnFacts { base_type, modifier, ..ColumnFacts::default() };
        let check = |one, other, expected| {
            assert_eq!(same_text(&column(one), &column(other)), expected, "{one:?} {other:?}");
            assert_eq!(same_text(&column(other), &column(one)), expected, "{other:?} {one:?}");
        };
        let numeric = |precision: i32, scale: i32| (NUMERIC, (precision << 16 | scale) + 4);
        check((23, -1), (20, -1), true);
        check((25, -1), (1043, 24), true);
        check((2950, -1), (2950, -1), true);
        check((2950, -1), (25, -1), false);
        check((23, -1), numeric(10, 2), false);
        check(numeric(12, 2), numeric(10, 2), true);
        check(numeric(12, 3), numeric(10, 2), false);
        check((NUMERIC, -1), (NUMERIC, -1), false);
        check((BPCHAR, 7), (BPCHAR, 7), true);
        check((BPCHAR, 7), (BPCHAR, 9), false);
        check((BPCHAR, 7), (25, -1), false);
    }
}
