//! Whether the original system's indices may still be replaced, as `walferry migrate` left it.
//!
//! Not here: the take-over of the queue (`take_over`).

use tokio_postgres::Client;

use crate::storage::{QueueError, doing};

const REPLACES: &str = "select exists (
    select from walferry.take_over where slot = $1 and replaced_at is null) as replaces";

const REPLACED: &str = "update walferry.take_over set replaced_at = clock_timestamp()
    where slot = $1 and replaced_at is null";

/// Whether the database was taken over and indices of the original system may still have the
/// names of aliases.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn replaces_indices(client: &Client, slot: &str) -> Result<bool, QueueError> {
    let failed = doing("look for a take-over");
    let row = client.query_one(REPLACES, &[&slot]).await.map_err(&failed)?;
    row.try_get("replaces").map_err(&failed)
}

/// Stores that the aliases have the names: an index of such a name is not the original's any more.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn note_replaced(client: &Client, slot: &str) -> Result<(), QueueError> {
    client.execute(REPLACED, &[&slot]).await.map(drop).map_err(doing("note the aliases' swap"))
}
