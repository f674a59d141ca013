//! Reads the configured tables' keys and reference columns from the catalog.
//!
//! Not here: the tables as the stream describes them (`engine::wal::relation`).

use tokio_postgres::Client;

use crate::change::TableId;
use crate::engine::document::definition::{Definition, FieldValue};
use crate::engine::document::shape::{ColumnType, Shapes, TableShape};
use crate::postgres::catalog::table;
use crate::postgres::catalog::table::TableKind;
use crate::postgres::{Disposition, Recovery};
use crate::storage::queue::record_id::TableKeys;

/// The tables are not as the definition declares them.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("table {table} does not exist; create it or take it out of the definition")]
    Missing { table: String },
    #[error("could not read the catalog")]
    Catalog(#[from] tokio_postgres::Error),
}

impl Recovery for InspectError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Missing { .. } => Disposition::Operator,
            Self::Catalog(source) => source.disposition(),
        }
    }
}

/// What the catalog says of the configured tables.
///
/// # Errors
/// [`InspectError`].
pub async fn shapes(
    client: &Client,
    definition: &Definition,
) -> Result<(Shapes, TableKeys), InspectError> {
    let mut shapes = Vec::new();
    let mut keys = Vec::new();
    for (table, declared) in (0..).map(TableId).zip(&definition.tables) {
        let found = table::inspect(client, &declared.schema, &declared.name).await?;
        let Some(found) = found else {
            let table = format!("{}.{}", declared.schema, declared.name);
            return Err(InspectError::Missing { table });
        };
        let key: Vec<ColumnType> = found
            .key
            .iter()
            .map(|k| ColumnType { name: k.name.clone(), type_name: k.type_name.clone() })
            .collect();
        let shape = TableShape {
            schema: declared.schema.clone(),
            name: declared.name.clone(),
            key,
            references: Vec::new(),
            key_deferrable: found.is_key_deferrable,
            oid: found.oid,
            partitioned: found.kind == TableKind::Partitioned,
            named: definition.columns_named(table).into_iter().map(str::to_owned).collect(),
        };
        keys.push(shape.table_key());
        shapes.push(shape);
    }
    add_references(client, definition, &mut shapes).await?;
    Ok((Shapes::new(shapes), TableKeys(keys)))
}

/// Adds the columns that rows are found by.
async fn add_references(
    client: &Client,
    definition: &Definition,
    shapes: &mut [TableShape],
) -> Result<(), tokio_postgres::Error> {
    for id in definition.sources() {
        let source = definition.source(id);
        for field in &source.fields {
            let (shown, by) = match &field.value {
                FieldValue::Embed { table, by, .. } => (*table, by.clone()),
                FieldValue::Path { table, start } => (*table, start.clone()),
                _ => continue,
            };
            let parent = definition.tree(shown).filter(|_| shown == source.table);
            let columns = [Some(by), parent.map(|tree| tree.parent.clone())];
            let from = &mut shapes[usize::from(source.table.0)];
            for column in columns.into_iter().flatten() {
                if from.references.iter().any(|known| known.name == column) {
                    continue;
                }
                if let Some(type_name) = column_type(client, from, &column).await? {
                    from.references.push(ColumnType { name: column.clone(), type_name });
                }
            }
        }
    }
    Ok(())
}

async fn column_type(
    client: &Client,
    table: &TableShape,
    column: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    let sql = "select pg_catalog.format_type(a.atttypid, null) as name
        from pg_catalog.pg_attribute a
        where a.attrelid = $1::text::regclass and a.attname = $2 and not a.attisdropped";
    let row = client.query_opt(sql, &[&table.qualified(), &column]).await?;
    Ok(row.map(|row| row.get("name")))
}
