//! Masks what no document shows: columns of a row, and fields that a stored document should not
//! have, such as those of an earlier definition. Pure.
//!
//! Not here: which columns are shown (`engine::document::visible`).

use serde_json::value::{RawValue, to_raw_value};

use crate::change::Row;
use crate::engine::document::compare::Fields;
use crate::engine::document::definition::DocumentSource;
use crate::engine::document::visible::VisibleColumns;

/// What stands for a value that is not shown.
const MASK: &str = "masked";

/// The columns of a row that no document shows.
pub(super) fn private_columns(row: &Row, visible: &VisibleColumns) -> Vec<String> {
    row.columns().names().iter().filter(|name| !visible.shows(name)).cloned().collect()
}

/// Columns of a row whose values were left at the server, since the row is too large.
pub(super) fn cut_columns(row: &Row) -> Vec<String> {
    let names = row.columns().names().iter().enumerate();
    names.filter(|(at, _)| row.cut_bytes(*at).is_some()).map(|(_, name)| name.clone()).collect()
}

/// A row with the values of these columns masked.
pub(super) fn row(row: &Row, masked: &[String]) -> Fields {
    let mut fields: Fields = serde_json::from_slice(row.json()).unwrap_or_default();
    for (name, value) in &mut fields {
        if masked.contains(name) {
            hide(value);
        }
    }
    fields
}

/// A stored document with those fields masked that its source does not give. `columns` are those
/// of the row, where there is one.
pub(super) fn document(
    stored: Box<RawValue>,
    source: &DocumentSource,
    columns: Option<&[String]>,
) -> Box<RawValue> {
    let Ok(mut fields) = serde_json::from_str::<Fields>(stored.get()) else { return masked() };
    let mut changed = false;
    for (name, value) in &mut fields {
        if !source.has_field(name, columns) {
            changed |= hide(value);
        } else if let Some(members) = source.embedded_members(name) {
            changed |= hide_others(value, &members);
        }
    }
    match changed {
        // As Elasticsearch has it, to the digit and in its order.
        false => stored,
        true => to_raw_value(&fields).unwrap_or_else(|_| masked()),
    }
}

/// Hides the members of an embedded row that are not shown; whether there were any.
fn hide_others(value: &mut Box<RawValue>, shown: &[&str]) -> bool {
    if value.get() == "null" {
        return false;
    }
    let Ok(mut members) = serde_json::from_str::<Fields>(value.get()) else { return hide(value) };
    let mut changed = false;
    for (name, member) in &mut members {
        if !shown.contains(&name.as_str()) {
            changed |= hide(member);
        }
    }
    if changed {
        match to_raw_value(&members) {
            Ok(hidden) => *value = hidden,
            Err(_) => _ = hide(value),
        }
    }
    changed
}

fn hide(value: &mut Box<RawValue>) -> bool {
    *value = masked();
    true
}

fn masked() -> Box<RawValue> {
    to_raw_value(MASK).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::document::parse;

    fn check(index: usize, columns: &[&str], stored: &str, expected: &str) {
        let definition = parse::parse(None).unwrap();
        let columns: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
        let columns = Some(columns.as_slice()).filter(|columns| !columns.is_empty());
        let stored = RawValue::from_string(stored.to_owned()).unwrap();
        let shown = document(stored, &definition.indices[index].sources[0], columns);
        assert_eq!(shown.get(), expected);
    }

    #[test]
    fn a_stored_document_shows_only_what_its_source_gives() {
        check(0, &["id"], r#"{"id":1.50,"a":2}"#, r#"{"a":"masked","id":1.50}"#);
        check(1, &["email", "id"], r#"{"id": 1, "email": "x"}"#, r#"{"email":"masked","id":1}"#);
        // Without a row the columns are not known: those that are excepted stay hidden.
        check(1, &[], r#"{"phone":"x"}"#, r#"{"phone":"masked"}"#);
        check(1, &[], r#"{"id": 1.0}"#, r#"{"id": 1.0}"#);
        let seller = r#"{"seller":{"email":"x","id":1}}"#;
        check(0, &["id"], seller, r#"{"seller":{"email":"masked","id":1}}"#);
        check(0, &["id"], r#"{"seller":["x"]}"#, r#"{"seller":"masked"}"#);
        check(0, &["id"], r#"{"seller":null}"#, r#"{"seller":null}"#);
        check(3, &["id", "email"], r#"{"email":"x"}"#, r#"{"email":"masked"}"#);
        check(0, &["id"], r#"["x"]"#, r#""masked""#);
    }
}
