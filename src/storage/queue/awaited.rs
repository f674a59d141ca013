//! The indices that parked jobs wait for, and the end of the wait.
//!
//! Not here: parking jobs (`park`).

use tokio_postgres::{Client, Row};

use super::claim::Claimer;
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
pub async fn count(client: &Client) -> Result<Vec<AwaitedIndex>, QueueError> {
    read(client, JOBS_MAX).await
}

/// The aliases of these indices.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn names(client: &Client) -> Result<Vec<String>, QueueError> {
    Ok(read(client, 0).await?.into_iter().map(|index| index.name).collect())
}

impl Claimer {
    /// The aliases of the indices that jobs wait for.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn awaited_indices(&self) -> Result<Vec<String>, QueueError> {
        names(&self.client).await
    }

    /// Ends the wait of `limit` jobs for an index: they are due. Returns how many there were.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`], [`QueueError::Database`].
    pub async fn release(&self, index: &str, limit: u32) -> Result<u64, QueueError> {
        const RELEASE: &str = include_str!("awaited_release.sql");
        let body = async {
            let released = self.client.execute(RELEASE, &[&index, &i64::from(limit)]).await;
            released.map_err(doing("end the wait of jobs for an index"))
        };
        self.guard.run(&self.client, body).await
    }
}

async fn read(client: &Client, jobs_max: i64) -> Result<Vec<AwaitedIndex>, QueueError> {
    let reading = "look for jobs that wait for an index";
    let rows = client.query(AWAITED, &[&jobs_max]).await.map_err(doing(reading))?;
    rows.iter().map(of).collect::<Result<_, _>>().map_err(doing(reading))
}

fn of(row: &Row) -> Result<AwaitedIndex, tokio_postgres::Error> {
    Ok(AwaitedIndex { name: row.try_get("name")?, jobs: row.try_get("jobs")? })
}
