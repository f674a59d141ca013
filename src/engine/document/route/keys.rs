//! How a row's key is read. Pure.

use std::borrow::Cow;

use crate::change::{Row, TableId};

/// Reads the keys of rows.
pub trait RowKeys {
    /// The key as one text, as in documents' ids; `None` if the row lacks a column of it. Different
    /// keys have different texts.
    fn text<'r>(&self, table: TableId, row: &'r Row) -> Option<Cow<'r, str>>;
}
