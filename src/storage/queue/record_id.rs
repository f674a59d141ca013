//! From a row's key to `record_id` and to a document's `_id`. Pure.
//!
//! Not here: which columns are the key; they are given as [`TableKeys`].

use uuid::Uuid;

use crate::change::{Row, TableId};

/// The namespace of `record_id`s that are derived from keys. Fixed for ever: a row's history is
/// found by it.
const NAMESPACE: Uuid = Uuid::from_u128(0x5f0c_b2de_2a2b_4d6f_9c1e_7761_6c66_6572);

/// How the jobs of one table are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableKey {
    /// The word in `table_name`; at most 100 characters.
    pub name: String,
    /// The key's columns, in the key's order.
    pub columns: Vec<String>,
    /// The key is a single column of type `uuid`.
    pub uuid: bool,
}

/// The keys of all configured tables, by [`TableId`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableKeys(pub Vec<TableKey>);

impl TableKeys {
    /// # Panics
    /// Where the table is not a configured one: ids are made from the same list.
    #[must_use]
    pub fn get(&self, table: TableId) -> &TableKey {
        self.0.get(usize::from(table.0)).expect("a TableId is an index of the definition's tables")
    }

    /// The table of that name.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<TableId> {
        let index = self.0.iter().position(|key| key.name == name)?;
        u16::try_from(index).ok().map(TableId)
    }
}

impl TableKey {
    /// The `record_id` of a row; `None` where the row lacks a column of the key.
    #[must_use]
    pub fn record_id(&self, row: &Row) -> Option<Uuid> {
        if self.uuid
            && let [column] = self.columns.as_slice()
            && let Some([b'"', text @ .., b'"']) = row.get(column)
            && let Ok(uuid) = Uuid::try_parse_ascii(text)
        {
            return Some(uuid);
        }
        let values: Option<Vec<String>> = self.columns.iter().map(|c| row.text(c)).collect();
        Some(derived_record_id(&document_id(&values?)))
    }
}

/// The `_id` of the document of the row with this key: a single value as it stands; several
/// joined by `|`, with `\` before each `|` and `\` inside a value, so that no two keys meet.
#[must_use]
pub fn document_id<S: AsRef<str>>(key: &[S]) -> String {
    if let [single] = key {
        return single.as_ref().to_owned();
    }
    let mut id = String::new();
    for (index, value) in key.iter().enumerate() {
        if index > 0 {
            id.push('|');
        }
        for character in value.as_ref().chars() {
            if matches!(character, '|' | '\\') {
                id.push('\\');
            }
            id.push(character);
        }
    }
    id
}

/// The `record_id` for a key that is not a uuid: UUIDv5 of its [`document_id`].
#[must_use]
pub fn derived_record_id(document_id: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, document_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_share_an_id() {
        let check = |key: &[&str], expected: &str| assert_eq!(document_id(key), expected);
        check(&["7"], "7");
        check(&[r"a|b\c"], r"a|b\c");
        check(&["a", "b"], "a|b");
        check(&["a|b", "c"], r"a\|b|c");
        check(&["a", "b|c"], r"a|b\|c");
        check(&[r"a\", "b"], r"a\\|b");
        check(&["a", r"\b"], r"a|\\b");
        check(&["", ""], "|");
    }

    #[test]
    fn a_uuid_key_is_the_record_id() {
        let key = TableKey { name: "t".into(), columns: vec!["id".into()], uuid: true };
        let id = "00000000-0000-4000-8000-00000000002a";
        let row = Row::parse(&format!(r#"{{"id": "{id}"}}"#), None).unwrap();
        assert_eq!(key.record_id(&row).unwrap().to_string(), id);
    }

    #[test]
    fn other_keys_are_hashed_and_missing_ones_are_none() {
        let key = |columns: &[&str]| TableKey {
            name: "t".into(),
            columns: columns.iter().map(ToString::to_string).collect(),
            uuid: false,
        };
        let row = Row::parse(r#"{"a": 1, "b": "x|y"}"#, None).unwrap();
        assert_eq!(key(&["a", "b"]).record_id(&row), Some(derived_record_id(r"1|x\|y")));
        assert_eq!(key(&["a"]).record_id(&row), Some(derived_record_id("1")));
        assert_eq!(key(&["a", "c"]).record_id(&row), None);
        assert_eq!(
            derived_record_id("1").to_string(),
            derived_record_id("1").to_string(),
            "the same key always gives the same id"
        );
    }
}
