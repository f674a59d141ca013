//! A source table as the catalog describes it: its key, its replica identity, its references.
//!
//! Not here: the columns of streamed rows, which the stream itself defines.

use tokio_postgres::{Client, Error};

/// What kind of relation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    Table,
    Partitioned,
    /// A view, a foreign table …: nothing that can be published.
    Other,
}

/// What the stream carries of old rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing: PostgreSQL refuses the application's updates and deletes once published.
    Nothing,
    /// The whole row.
    Full,
    /// A unique index.
    Index,
}

/// A column of a primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    pub name: String,
    pub type_oid: u32,
    /// As `format_type` prints it.
    pub type_name: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub oid: u32,
    pub kind: TableKind,
    pub replica_identity: ReplicaIdentity,
    /// Columns of the primary key in its order; empty without one.
    pub key: Vec<KeyColumn>,
    /// The key is deferrable: the stream may remove keys that are alive again.
    pub is_key_deferrable: bool,
    /// Row-level security is on.
    pub has_row_security: bool,
}

const TABLE: &str = include_str!("table.sql");

const KEY: &str = include_str!("table_key.sql");

/// Reads a table; `None` where there is none of that name.
///
/// # Errors
/// What the queries return.
pub async fn inspect(
    client: &Client,
    schema: &str,
    name: &str,
) -> Result<Option<TableInfo>, Error> {
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
    Ok(Some(TableInfo {
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
