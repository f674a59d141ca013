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

const TABLE: &str = "
    select c.oid, c.relkind::text, c.relreplident::text, c.relrowsecurity,
           coalesce(k.condeferrable, false) as is_key_deferrable
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    left join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'p'
    where n.nspname = $1 and c.relname = $2";

const KEY: &str = "
    select a.attname::text, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod)
    from pg_catalog.pg_index i
    cross join lateral pg_catalog.unnest(i.indkey::int2[]) with ordinality as k(number, place)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
    where i.indrelid = $1 and i.indisprimary and k.place <= i.indnkeyatts
    order by k.place";

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
            name: column.try_get(0)?,
            type_oid: column.try_get(1)?,
            type_name: column.try_get(2)?,
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
