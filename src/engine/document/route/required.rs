//! The rows that a document embeds. Pure.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::change::{Row, TableId};
use crate::engine::document::build::Embedded;
use crate::engine::document::definition::{Definition, FieldValue, SourceId};

/// A row that a document embeds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredRow {
    pub table: TableId,
    pub key: String,
    /// All of its ancestors are required too.
    pub path: bool,
}

/// Adds the rows that a source's document of this row embeds.
pub fn needs(definition: &Definition, source: SourceId, row: &Row, needs: &mut Vec<RequiredRow>) {
    for field in &definition.source(source).fields {
        let (table, column, path) = match &field.value {
            FieldValue::Embed { table, by, path, .. } => (*table, by, path.is_some()),
            FieldValue::Path { table, start } => (*table, start, true),
            _ => continue,
        };
        if let Some(key) = row.text(column) {
            needs.push(RequiredRow { table, key, path });
        }
    }
}

/// The first row on the way to the root that is not known yet; `None` if all required rows are.
pub fn first_unknown(
    definition: &Definition,
    rows: &impl Embedded,
    need: &RequiredRow,
    knows: impl Fn(TableId, &str) -> bool,
) -> Option<RequiredRow> {
    let mut seen: SmallVec<[&Row; 8]> = SmallVec::new();
    let mut key = Cow::Borrowed(need.key.as_str());
    loop {
        if !knows(need.table, &key) {
            return Some(RequiredRow { table: need.table, key: key.into_owned(), path: need.path });
        }
        let tree = definition.tree(need.table).filter(|_| need.path)?;
        let row = rows.row(need.table, &key)?;
        if seen.iter().any(|known| std::ptr::eq(*known, row)) {
            return None;
        }
        seen.push(row);
        key = row.text_at(row.columns().index_of(&tree.parent)?)?;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::engine::document::parse;

    struct Known(TableId, HashMap<&'static str, Option<Row>>);

    impl Embedded for Known {
        fn row(&self, table: TableId, key: &str) -> Option<&Row> {
            self.1.get(key).filter(|_| table == self.0)?.as_ref()
        }
    }

    #[test]
    fn a_path_asks_for_one_row_after_another() {
        let definition = parse::parse(None).unwrap();
        let table = definition.table("public", "categories").unwrap();
        let mut known = Known(table, HashMap::new());
        let need = RequiredRow { table, key: "a".to_owned(), path: true };
        let check = |known: &Known, path: bool, expected: Option<&str>| {
            let need = RequiredRow { path, ..need.clone() };
            let unknown =
                first_unknown(&definition, known, &need, |_, key| known.1.contains_key(key));
            assert_eq!(unknown.map(|need| need.key).as_deref(), expected);
        };
        let row = |json| Some(Row::parse(json, None).unwrap());
        check(&known, true, Some("a"));
        known.1.insert("a", row(r#"{"id":"a","parent_id":"b"}"#));
        check(&known, true, Some("b"));
        check(&known, false, None);
        known.1.insert("b", row(r#"{"id":"b","parent_id":"a"}"#));
        check(&known, true, None);
        known.1.insert("b", row(r#"{"id":"b","parent_id":null}"#));
        check(&known, true, None);
        known.1.insert("b", None);
        check(&known, true, None);
    }

    #[test]
    fn a_document_needs_the_rows_that_it_shows() {
        let definition = parse::parse(None).unwrap();
        let check = |table: &str, row: &str, expected: &[&str]| {
            let row = Row::parse(row, None).unwrap();
            let table = definition.table("public", table).unwrap();
            let mut found = Vec::new();
            for source in definition.sources_of(table) {
                needs(&definition, source, &row, &mut found);
            }
            let found: Vec<String> = found
                .iter()
                .map(|n| {
                    let name = &definition.tables[usize::from(n.table.0)].name;
                    format!("{name}/{}{}", n.key, if n.path { "/.." } else { "" })
                })
                .collect();
            assert_eq!(found, expected);
        };
        let listing = r#"{"id":"l","user_id":"u","category_id":7}"#;
        check("listings", listing, &["profiles/u", "categories/7/..", "categories/7/.."]);
        check("listings", r#"{"id":"l","user_id":null}"#, &[]);
        check("categories", r#"{"id":"c"}"#, &["categories/c/..", "categories/c/.."]);
        check("profiles", r#"{"id":"p"}"#, &[]);
    }
}
