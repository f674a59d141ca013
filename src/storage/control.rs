//! The operator's choice of indexing: kept in the database, so that it survives a restart.
//!
//! Not here: the right to choose (`api`), and what follows from the choice (`engine::supervisor`).

use tokio_postgres::Client;

use super::{QueueError, doing};

/// Stores whether jobs shall be indexed; capture goes on either way.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn set_indexing(client: &Client, slot: &str, on: bool) -> Result<(), QueueError> {
    const SET: &str = include_str!("control_set.sql");
    client.execute(SET, &[&slot, &on]).await.map(drop).map_err(doing("store the choice"))
}

/// Whether jobs shall be indexed; they shall unless an operator chose otherwise.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn indexing(client: &Client, slot: &str) -> Result<bool, QueueError> {
    const GET: &str = "select indexing from walferry.control where slot = $1";
    let row = client.query_opt(GET, &[&slot]).await.map_err(doing("read the choice"))?;
    row.map_or(Ok(true), |row| row.try_get("indexing").map_err(doing("read the choice")))
}
