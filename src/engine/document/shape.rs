//! A configured table as the catalog describes it: its key, and its name in SQL. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use crate::change::{Row, TableId};
use crate::engine::document::route::RowKeys;
use crate::postgres::{quote_identifier, quote_qualified};
use crate::storage::queue::record_id;
use crate::storage::queue::record_id::TableKey;

/// A column of a key, or one that refers to other rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    pub name: String,
    /// As `format_type` prints it, for casts.
    pub type_name: String,
}

/// A configured table, as found in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    pub schema: String,
    pub name: String,
    /// The primary key's columns, in order.
    pub key: Vec<ColumnType>,
    /// Columns by which rows are queried, key columns not included.
    pub references: Vec<ColumnType>,
    /// The key's constraint is deferrable: the stream may delete a key that exists again.
    pub key_deferrable: bool,
    /// The object id of the table, which stays when it is renamed.
    pub oid: u32,
    /// Its rows are those of its partitions.
    pub partitioned: bool,
    /// The columns that the definition names.
    pub named: Vec<String>,
}

/// The shapes of all configured tables, by [`TableId`].
#[derive(Clone, Debug)]
pub struct Shapes(Arc<Vec<TableShape>>);

impl Shapes {
    #[must_use]
    pub fn new(shapes: Vec<TableShape>) -> Self {
        Self(Arc::new(shapes))
    }

    /// # Panics
    /// Never for tables of the definition that the shapes were made for.
    #[must_use]
    pub fn of(&self, table: TableId) -> &TableShape {
        &self.0[usize::from(table.0)]
    }

    /// The tables in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &TableShape> {
        self.0.iter()
    }
}

impl ColumnType {
    /// The type of parameters that are compared with the column. A reference may have a narrower or
    /// a wider integer type than the key, and PostgreSQL compares integers of any two widths.
    #[must_use]
    pub fn parameter_type(&self) -> &str {
        match self.type_name.as_str() {
            "smallint" | "integer" => "bigint",
            other => other,
        }
    }
}

impl RowKeys for Shapes {
    fn text<'r>(&self, table: TableId, row: &'r Row) -> Option<Cow<'r, str>> {
        let shape = self.of(table);
        match shape.key.as_slice() {
            [] => None,
            [only] => row.text_at(row.columns().index_of(&only.name)?),
            _ if shape.has_key(row) => Some(Cow::Owned(shape.key_text(row))),
            _ => None,
        }
    }
}

impl TableShape {
    /// `schema.name`, quoted for SQL.
    #[must_use]
    pub fn qualified(&self) -> String {
        quote_qualified(&self.schema, &self.name)
    }

    /// The table in `from` and `lock table`. Rows of tables that inherit from it are not its own.
    #[must_use]
    pub fn own_rows(&self) -> String {
        let only = if self.partitioned { "" } else { "only " };
        format!("{only}{}", self.qualified())
    }

    /// The first column that the definition names and that is not among these.
    #[must_use]
    pub fn lacking(&self, mut has: impl FnMut(&str) -> bool) -> Option<&str> {
        self.named.iter().map(String::as_str).find(|name| !has(name))
    }

    /// `schema.name`, not quoted, for messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The parts of a row's key as text; empty if the row lacks one of them.
    #[must_use]
    pub fn key_parts(&self, row: &Row) -> Vec<String> {
        let parts: Option<Vec<String>> = self.key.iter().map(|c| row.text(&c.name)).collect();
        parts.unwrap_or_default()
    }

    /// Whether the row has all columns of its key.
    #[must_use]
    pub fn has_key(&self, row: &Row) -> bool {
        let has = |column: &ColumnType| {
            row.columns().index_of(&column.name).and_then(|index| row.text_at(index)).is_some()
        };
        !self.key.is_empty() && self.key.iter().all(has)
    }

    /// How the table's jobs are named.
    #[must_use]
    pub fn table_key(&self) -> TableKey {
        TableKey {
            name: self.name.clone(),
            columns: self.key.iter().map(|column| column.name.clone()).collect(),
            uuid: self.has_uuid_key(),
        }
    }

    /// A JSON object with the columns of a row's key; `None` if the row lacks one of them.
    #[must_use]
    pub fn key_object(&self, row: &Row) -> Option<String> {
        let members: Option<Vec<String>> = self
            .key
            .iter()
            .map(|column| {
                let value = std::str::from_utf8(row.get(&column.name)?).ok()?;
                Some(format!("{}:{value}", serde_json::Value::from(column.name.as_str())))
            })
            .collect();
        Some(format!("{{{}}}", members?.join(",")))
    }

    /// The key is one column of type `uuid`, so that `record_id` is the key.
    #[must_use]
    pub fn has_uuid_key(&self) -> bool {
        matches!(self.key.as_slice(), [only] if only.type_name == "uuid")
    }

    /// The key as one text, as in documents' ids.
    #[must_use]
    pub fn key_text(&self, row: &Row) -> String {
        record_id::document_id(&self.key_parts(row))
    }

    /// The parts of a key from its one text: the inverse of [`record_id::document_id`].
    #[must_use]
    pub fn split_key(&self, text: &str) -> Vec<String> {
        if self.key.len() == 1 {
            return vec![text.to_owned()];
        }
        let mut parts = vec![String::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let next = match character {
                '|' => {
                    parts.push(String::new());
                    continue;
                }
                '\\' => characters.next().unwrap_or('\\'),
                other => other,
            };
            parts.last_mut().expect("there is always a last part").push(next);
        }
        parts
    }

    /// The type of parameters for a column by which rows are queried.
    #[must_use]
    pub fn column_type(&self, name: &str) -> Option<&str> {
        let mut all = self.key.iter().chain(&self.references);
        all.find(|c| c.name == name).map(ColumnType::parameter_type)
    }

    /// A condition on `t` with an array parameter per key column, and the number of parameters.
    #[must_use]
    pub fn key_is_any(&self) -> (String, usize) {
        if let [only] = self.key.as_slice() {
            let name = quote_identifier(&only.name);
            return (format!("t.{name} = any($1::text[]::{}[])", only.parameter_type()), 1);
        }
        let names: Vec<String> =
            self.key.iter().map(|c| format!("t.{}", quote_identifier(&c.name))).collect();
        let arrays: Vec<String> = (1..)
            .zip(&self.key)
            .map(|(n, c)| format!("${n}::text[]::{}[]", c.parameter_type()))
            .collect();
        let condition =
            format!("({}) in (select * from unnest({}))", names.join(", "), arrays.join(", "));
        (condition, self.key.len())
    }

    /// A condition on `t`: its key comes after the parameters from `$first` on.
    #[must_use]
    pub fn key_is_after(&self, first: usize) -> String {
        let parameters: Vec<String> = (first..)
            .zip(&self.key)
            .map(|(n, c)| format!("${n}::text::{}", c.parameter_type()))
            .collect();
        format!("({}) > ({})", self.key_order(), parameters.join(", "))
    }

    /// The key's columns of `t`, for `order by`.
    #[must_use]
    pub fn key_order(&self) -> String {
        let names: Vec<String> =
            self.key.iter().map(|c| format!("t.{}", quote_identifier(&c.name))).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(key: &[(&str, &str)]) -> TableShape {
        let column = |(name, kind): &(&str, &str)| ColumnType {
            name: (*name).to_owned(),
            type_name: (*kind).to_owned(),
        };
        TableShape {
            schema: "public".to_owned(),
            name: "My \"table\"".to_owned(),
            key: key.iter().map(column).collect(),
            references: Vec::new(),
            key_deferrable: false,
            oid: 0,
            partitioned: false,
            named: vec!["status".to_owned()],
        }
    }

    #[test]
    fn rows_of_children_are_not_read() {
        let mut shape = shape(&[]);
        assert_eq!(shape.own_rows(), r#"only "public"."My ""table""""#);
        shape.partitioned = true;
        assert_eq!(shape.own_rows(), shape.qualified());
    }

    #[test]
    fn a_named_column_that_is_lacking_is_found() {
        assert_eq!(shape(&[]).lacking(|name| name == "state"), Some("status"));
        assert_eq!(shape(&[]).lacking(|name| name == "status"), None);
    }

    #[test]
    fn a_key_splits_as_it_was_joined() {
        let single = shape(&[("id", "text")]);
        assert_eq!(single.split_key("a|b"), ["a|b"]);
        let double = shape(&[("a", "text"), ("b", "text")]);
        for parts in [["a", "b"], ["a|b", "c"], [r"a\", "|"], ["", ""]] {
            assert_eq!(double.split_key(&record_id::document_id(&parts)), parts);
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(shape(&[]).qualified(), r#""public"."My ""table""""#);
    }

    #[test]
    fn a_single_key_is_looked_up_by_one_array() {
        let shape = shape(&[("id", "uuid")]);
        assert_eq!(shape.key_is_any(), (r#"t."id" = any($1::text[]::uuid[])"#.to_owned(), 1));
        assert_eq!(shape.key_is_after(2), r#"(t."id") > ($2::text::uuid)"#);
    }

    #[test]
    fn a_composite_key_is_looked_up_by_an_array_per_column() {
        let shape = shape(&[("a", "integer"), ("b", "text")]);
        let (condition, count) = shape.key_is_any();
        assert_eq!(count, 2);
        assert_eq!(
            condition,
            r#"(t."a", t."b") in (select * from unnest($1::text[]::bigint[], $2::text[]::text[]))"#
        );
        assert_eq!(shape.key_is_after(3), r#"(t."a", t."b") > ($3::text::bigint, $4::text::text)"#);
    }
}
