//! The jobs that wait for an index which takes no documents.
//!
//! Not here: parking them (`storage::queue::park`), and the verdict (`admin::health`).

use tokio_postgres::Client;

use crate::storage::{QueueError, doing};

/// At most this many jobs of an index are counted, to bound the time of the query.
pub const JOBS_MAX: i64 = 10_000;

const AWAITED: &str = "select name, jobs from walferry.awaited_index($1)";

/// An index that jobs wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwaitedIndex {
    /// Its alias.
    pub name: String,
    /// How many wait, [`JOBS_MAX`] at most.
    pub jobs: i64,
}

/// The indices that jobs wait for, in the order of their names.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn read(client: &Client) -> Result<Vec<AwaitedIndex>, QueueError> {
    let reading = "count jobs that wait for an index";
    let rows = client.query(AWAITED, &[&JOBS_MAX]).await.map_err(doing(reading))?;
    let of = |row: &tokio_postgres::Row| {
        Ok(AwaitedIndex { name: row.try_get("name")?, jobs: row.try_get("jobs")? })
    };
    rows.iter().map(of).collect::<Result<_, _>>().map_err(doing(reading))
}
