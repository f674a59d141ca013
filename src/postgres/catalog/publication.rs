//! The identity of each published table.
//!
//! Not here: what is wrong with a publication (`engine::preflight`), and creating or altering it
//! (`storage::schema`).

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error};

// `$1`: the publication's name.
const IDENTITIES: &str = include_str!("publication_identities.sql");

/// Publications have schemas since PostgreSQL 15.
const HAS_SCHEMAS: &str = "select
    pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') is not null as has_schemas";

// `$1`: the publication's name.
const SCHEMAS: &str = include_str!("publication_schemas.sql");

/// The identity of each published table by `schema.name`: another one means that the table, the
/// publication or the table's place in it was made anew, or that other operations are published.
///
/// # Errors
/// The error of a query.
pub async fn identities(client: &Client, name: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut schemas = BTreeMap::new();
    if client.query_one(HAS_SCHEMAS, &[]).await?.try_get("has_schemas")? {
        for row in client.query(SCHEMAS, &[&name]).await? {
            schemas.insert(row.try_get::<_, String>("schema")?, row.try_get::<_, u32>("member")?);
        }
    }
    let mut identities = BTreeMap::new();
    for row in client.query(IDENTITIES, &[&name]).await? {
        let schema: &str = row.try_get("schema")?;
        let own: Option<u32> = row.try_get("member")?;
        let member = own.or_else(|| schemas.get(schema).copied()).unwrap_or(0);
        let table: &str = row.try_get("table_and_publication")?;
        let operations: &str = row.try_get("operations")?;
        identities.insert(row.try_get("name")?, format!("{table}/{member}/{operations}"));
    }
    Ok(identities)
}
