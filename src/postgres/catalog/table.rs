//! A source table in the catalog: its kind, its primary key and its replica identity.
//!
//! Not here: the columns of streamed rows, which Relation messages define
//! (`engine::wal::relation`).

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error};

/// The kind of a relation (`pg_class.relkind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// An ordinary table.
    Table,
    /// A partitioned table.
    Partitioned,
    /// A view, a foreign table or another relation that cannot be published.
    Other,
}

/// The columns of old rows that the stream contains (`pg_class.relreplident`; `ALTER TABLE …
/// REPLICA IDENTITY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The columns of the primary key.
    Default,
    /// None. PostgreSQL rejects updates and deletes of the table while it is published.
    Nothing,
    /// All columns.
    Full,
    /// The columns of a unique index.
    Index,
}

/// A column of a primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// The column's name.
    pub name: String,
    /// The OID of the column's type.
    pub type_oid: u32,
    /// The type's name, as `format_type` prints it.
    pub type_name: String,
}

/// A row of `pg_class`, with the primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogTable {
    /// The OID of the table.
    pub oid: u32,
    /// The kind of the relation.
    pub kind: TableKind,
    /// The replica identity.
    pub replica_identity: ReplicaIdentity,
    /// The columns of the primary key, in key order; empty if the table has none.
    pub key: Vec<KeyColumn>,
    /// True if the primary key is deferrable. Then a transaction can remove a key and insert it
    /// again, in any order.
    pub is_key_deferrable: bool,
    /// True if row-level security is enabled.
    pub has_row_security: bool,
}

/// A column that the definition names and the table lacks. A document made without it could lack
/// a condition, or show what the column's new name holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "column {column} of table {table} does not exist (any more), and the definition names it; \
     nothing was indexed or deleted without it. `walferry check` names the nearest column: change \
     the definition, or rename the column back, and start again"
)]
pub struct LackingColumn {
    pub table: String,
    pub column: String,
}

const TABLE: &str = include_str!("table.sql");

const KEY: &str = include_str!("table_key.sql");

const KEYS: &str = include_str!("table_keys.sql");

const SIGNATURES: &str = include_str!("table_signatures.sql");

const COLUMNS: &str = "select a.attname::text as name from pg_catalog.pg_attribute a
    where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped";

const WHOLES: &str = "select relid::oid as oid from pg_catalog.pg_partition_ancestors($1::oid)";

/// The names of the columns that a table has now; none if it does not exist any more.
///
/// # Errors
/// The error of the query.
pub async fn columns(client: &Client, oid: u32) -> Result<Vec<String>, Error> {
    let rows = client.query(COLUMNS, &[&oid]).await?;
    rows.iter().map(|row| row.try_get("name")).collect()
}

/// The object ids of the partitioned tables that a table is a part of, and its own.
///
/// # Errors
/// The error of the query.
pub async fn wholes(client: &Client, oid: u32) -> Result<Vec<u32>, Error> {
    let rows = client.query(WHOLES, &[&oid]).await?;
    rows.iter().map(|row| row.try_get("oid")).collect()
}

/// The generated columns of these tables (`schema.name`), and those of composite types, each as
/// a text that differs once one of them is altered. A table that does not exist has none.
///
/// # Errors
/// The error of the query.
pub async fn signatures(
    client: &Client,
    tables: &[&str],
) -> Result<BTreeMap<String, String>, Error> {
    let rows = client.query(SIGNATURES, &[&tables]).await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("signature")?))).collect()
}

/// How rows of these tables (`schema.name`) are identified, as a text that differs once the replica
/// identity or the primary key is altered. A table that does not exist has none.
///
/// # Errors
/// The error of the query.
pub async fn keys(client: &Client, tables: &[&str]) -> Result<BTreeMap<String, String>, Error> {
    let rows = client.query(KEYS, &[&tables]).await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("key")?))).collect()
}

/// Reads a table; `None` if it does not exist.
///
/// # Errors
/// The error of a query.
pub async fn inspect(
    client: &Client,
    schema: &str,
    name: &str,
) -> Result<Option<CatalogTable>, Error> {
    let Some(row) = client.query_opt(TABLE, &[&schema, &name]).await? else { return Ok(None) };
    let oid: u32 = row.try_get("oid")?;
    let mut key = Vec::new();
    for column in client.query(KEY, &[&oid]).await? {
        key.push(KeyColumn {
            name: column.try_get("name")?,
            type_oid: column.try_get("type_oid")?,
            type_name: column.try_get("type_name")?,
        });
    }
    Ok(Some(CatalogTable {
        oid,
        kind: match row.try_get("relkind")? {
            "r" => TableKind::Table,
            "p" => TableKind::Partitioned,
            _ => TableKind::Other,
        },
        replica_identity: match row.try_get("relreplident")? {
            "d" => ReplicaIdentity::Default,
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Nothing,
        },
        key,
        is_key_deferrable: row.try_get("is_key_deferrable")?,
        has_row_security: row.try_get("relrowsecurity")?,
    }))
}
