//! How a row's key is read. Pure.

use crate::change::{Row, TableId};

/// Reads the keys of rows.
pub trait RowKeys {
    /// The values of the key's columns as text; empty if the row lacks one of them.
    fn parts(&self, table: TableId, row: &Row) -> Vec<String>;

    /// The key as one text.
    fn text(&self, parts: &[String]) -> String;
}
