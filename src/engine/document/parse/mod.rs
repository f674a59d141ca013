//! Reads a definition from TOML: `[[table]]` and `[[index]]`, each name checked. Pure.

mod check;
mod error;
mod file;
mod resolve;
#[cfg(test)]
mod tests;

use serde::Deserialize;

pub use self::error::DefinitionError;

use self::check::{unique, within_limit};
use self::file::{DefinitionFile, RawTable};
use self::resolve::Resolver;
use super::definition::{Definition, TableDefinition, Tree};
use super::dependents::dependents;

/// The definition used if the configuration has none.
pub const DEFAULT: &str = include_str!("../default.toml");

/// The definition in a configuration file's `table` and `index` keys; the built-in one for `None`.
///
/// # Errors
/// [`DefinitionError`].
pub fn parse(given: Option<&toml::Table>) -> Result<Definition, DefinitionError> {
    let file: DefinitionFile = match given {
        Some(table) => DefinitionFile::deserialize(toml::Value::Table(table.clone()))?,
        None => toml::from_str(DEFAULT)?,
    };
    let tables = tables(&file.table)?;
    let resolver = Resolver { raw: &file.table, tables: &tables };
    let mut indices = Vec::with_capacity(file.index.len());
    for raw in file.index {
        indices.push(resolver.index(raw)?);
    }
    unique("index", indices.iter().map(|index| index.name.as_str()), "")?;
    within_limit("[[index]]", indices.len())?;
    let mut definition = Definition { tables, indices, dependents: Vec::new() };
    definition.dependents = dependents(&definition);
    Ok(definition)
}

fn tables(raw: &[RawTable]) -> Result<Vec<TableDefinition>, DefinitionError> {
    let mut tables = Vec::with_capacity(raw.len());
    for table in raw {
        let tree = match (table.parent.clone(), table.label.clone()) {
            (Some(parent), Some(label)) => Some(Tree { parent, label }),
            (None, None) => None,
            _ => return Err(DefinitionError::HalfTree { name: table.name.clone() }),
        };
        tables.push(TableDefinition {
            schema: table.schema.clone(),
            name: table.name.clone(),
            tree,
        });
    }
    // The queue's `table_name` has no schema, so bare names must differ.
    unique("table", raw.iter().map(|table| table.name.clone()), "")?;
    within_limit("[[table]]", tables.len())?;
    Ok(tables)
}
