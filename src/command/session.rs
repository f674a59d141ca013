//! The session of a command, and what it says of the server.

use tokio_postgres::Client;

use crate::config::Config;
use crate::engine::document::parse::{self, DefinitionError};
use crate::engine::preflight::TableName;
use crate::postgres::{self, ConnectError, Session};

pub(super) async fn connect(config: &Config) -> Result<Session, ConnectError> {
    postgres::connect(&config.database, "walferry").await
}

/// The tables of the definition.
pub(super) fn tables(config: &Config) -> Result<Vec<TableName>, DefinitionError> {
    let definition = parse::parse(config.definition.as_ref())?;
    Ok(definition.tables.into_iter().map(|table| (table.schema, table.name)).collect())
}

/// The server's version, the database and the role, for a heading.
pub(super) async fn heading(client: &Client) -> Result<String, tokio_postgres::Error> {
    let sql = "select format('PostgreSQL %s, database %s, role %s',
        current_setting('server_version'), current_database(), current_user) as heading";
    client.query_one(sql, &[]).await?.try_get("heading")
}
