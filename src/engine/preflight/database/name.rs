//! Names of tables in findings. Pure.

use crate::engine::preflight::TableName;
use crate::postgres::quote_qualified;

/// `schema.name`, for sentences.
pub(super) fn label(name: &TableName) -> String {
    format!("{}.{}", name.0, name.1)
}

/// `schema.name`, quoted for SQL.
pub(super) fn quoted(name: &TableName) -> String {
    quote_qualified(&name.0, &name.1)
}

/// The names, separated by commas.
pub(super) fn labels(names: &[TableName]) -> String {
    names.iter().map(label).collect::<Vec<_>>().join(", ")
}
