//! Progress of the first load, a row per table.
//!
//! Not here: what is loaded; and progress itself moves only when a chunk settles
//! (`storage::queue::settle`).

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::lease::Lease;
use super::leased_transaction::LeasedTransaction;
use super::sql::{bigint, count, lsn, pg_lsn};
use super::{QueueError, doing};
use crate::change::Lsn;

/// How far the load of one table has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// `schema.name`.
    pub table: String,
    /// The indices that the load fills; others make it another load.
    pub index_uuids: Vec<String>,
    /// W: the load stands for the tables as of this LSN.
    pub load_lsn: Lsn,
    /// The first transaction (64 bits) that had not begun at W, once known.
    pub load_xmax: Option<u64>,
    /// The last key of which all is settled, as a JSON array; `None` at the start and the end.
    pub last_key: Option<String>,
    /// Rows settled.
    pub row_count: u64,
    pub done: bool,
}

const READ: &str = "select table_name, index_uuids, load_lsn, load_xmax, last_key, row_count,
        done_at is not null as is_done
    from walferry.load where slot = $1 order by table_name";

const BEGIN: &str = include_str!("load_progress_begin.sql");

/// All loads of `slot`, by table.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn read(client: &Client, slot: &str) -> Result<Vec<LoadProgress>, QueueError> {
    let rows = client.query(READ, &[&slot]).await.map_err(doing("read the load's progress"))?;
    let read = |row: &Row| -> Result<LoadProgress, tokio_postgres::Error> {
        Ok(LoadProgress {
            table: row.try_get("table_name")?,
            index_uuids: row.try_get("index_uuids")?,
            load_lsn: lsn(row.try_get("load_lsn")?),
            load_xmax: row.try_get::<_, Option<i64>>("load_xmax")?.map(count),
            last_key: row.try_get("last_key")?,
            row_count: count(row.try_get("row_count")?),
            done: row.try_get("is_done")?,
        })
    };
    let all: Result<Vec<LoadProgress>, _> = rows.iter().map(read).collect();
    all.map_err(doing("read the load's progress"))
}

/// Writes the rows as given, in place of older ones of the same tables: a load begins.
///
/// # Errors
/// [`QueueError::LeaseLost`], [`QueueError::Database`].
pub async fn begin(
    client: &Client,
    lease: &Lease,
    loads: &[LoadProgress],
) -> Result<(), QueueError> {
    let guard = LeasedTransaction::prepare(client, lease).await?;
    let statement = client.prepare(BEGIN).await.map_err(doing("prepare the load"))?;
    guard
        .run(client, async {
            for load in loads {
                let parameters: [&(dyn ToSql + Sync); 8] = [
                    &lease.slot,
                    &load.table,
                    &load.index_uuids,
                    &pg_lsn(load.load_lsn),
                    &load.load_xmax.map(bigint),
                    &load.last_key,
                    &bigint(load.row_count),
                    &load.done,
                ];
                let stored = client.execute(&statement, &parameters).await;
                stored.map_err(doing("store the load's progress"))?;
            }
            Ok(())
        })
        .await
}
