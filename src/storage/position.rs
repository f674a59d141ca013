//! Where recording and settling have come to, as stored.
//!
//! Not here: advancing them. The recorded position moves with the jobs (`storage::queue::record`),
//! the settled one with their fates (`storage::queue::settle`).

use postgres_types::{PgLsn, ToSql};
use tokio_postgres::Client;

use super::lease::Lease;
use super::leased_transaction::LeasedTransaction;
use super::sql::{bigint, lsn, pg_lsn, position};
use super::{QueueError, doing};
use crate::change::{Lsn, Position};

/// Which stream of which cluster is recorded, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPosition {
    /// `IDENTIFY_SYSTEM`'s, in decimal.
    pub system_identifier: String,
    pub timeline: i32,
    /// Raised by every rebuild from the tables; 1 at first.
    pub generation: i32,
    /// The last change that is recorded.
    pub recorded: Position,
    /// The end of the last commit that is recorded as a whole.
    pub recorded_end_lsn: Lsn,
}

/// How far jobs have their fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Below this all is settled.
    pub settled_lsn: Lsn,
    /// Documents may have been rendered from reads up to here.
    pub read_ahead_lsn: Lsn,
}

const LOAD: &str = "select system_identifier, timeline, generation, recorded_lsn,
        recorded_ordinal, recorded_end_lsn
    from walferry.position where slot = $1";

const STORE: &str = include_str!("position_store.sql");

const LOAD_SETTLEMENT: &str =
    "select settled_lsn, read_ahead_lsn from walferry.settlement where slot = $1";

const STORE_SETTLEMENT: &str = include_str!("position_store_settlement.sql");

const RAISE_READ_AHEAD: &str = include_str!("position_raise_read_ahead.sql");

/// The stored position of `slot`; `None` where there has never been one.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn load(client: &Client, slot: &str) -> Result<Option<StoredPosition>, QueueError> {
    let row = client.query_opt(LOAD, &[&slot]).await.map_err(doing("read the position"))?;
    let Some(row) = row else { return Ok(None) };
    let read = || -> Result<StoredPosition, tokio_postgres::Error> {
        Ok(StoredPosition {
            system_identifier: row.try_get("system_identifier")?,
            timeline: row.try_get("timeline")?,
            generation: row.try_get("generation")?,
            recorded: position(row.try_get("recorded_lsn")?, row.try_get("recorded_ordinal")?),
            recorded_end_lsn: lsn(row.try_get("recorded_end_lsn")?),
        })
    };
    read().map(Some).map_err(doing("read the position"))
}

/// Another slot whose changes are in this database's queue.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn other_slot(client: &Client, slot: &str) -> Result<Option<String>, QueueError> {
    const OTHER: &str = "select slot from walferry.position where slot <> $1 order by slot limit 1";
    let row = client.query_opt(OTHER, &[&slot]).await.map_err(doing("look for other slots"))?;
    row.map(|row| row.try_get("slot")).transpose().map_err(doing("look for other slots"))
}

/// Writes position and settlement together as given, for a new slot or a rebuild: the only way
/// either may go back.
///
/// # Errors
/// [`QueueError::LeaseLost`], [`QueueError::Database`].
pub async fn store(
    client: &Client,
    lease: &Lease,
    stored: &StoredPosition,
    settlement: Settlement,
) -> Result<(), QueueError> {
    let guard = LeasedTransaction::prepare(client, lease).await?;
    guard
        .run(client, async {
            let parameters: [&(dyn ToSql + Sync); 7] = [
                &lease.slot,
                &stored.system_identifier,
                &stored.timeline,
                &stored.generation,
                &pg_lsn(stored.recorded.commit_lsn),
                &bigint(stored.recorded.ordinal),
                &pg_lsn(stored.recorded_end_lsn),
            ];
            client.execute(STORE, &parameters).await.map_err(doing("store the position"))?;
            let settled = pg_lsn(settlement.settled_lsn);
            let ahead = pg_lsn(settlement.read_ahead_lsn);
            let done = client.execute(STORE_SETTLEMENT, &[&lease.slot, &settled, &ahead]).await;
            done.map(drop).map_err(doing("store the settlement"))
        })
        .await
}

/// The settlement of `slot`; zero where nothing ever settled.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn load_settlement(client: &Client, slot: &str) -> Result<Settlement, QueueError> {
    let row =
        client.query_opt(LOAD_SETTLEMENT, &[&slot]).await.map_err(doing("read the settlement"))?;
    let Some(row) = row else { return Ok(Settlement::default()) };
    let read = |column: &str| {
        row.try_get::<_, PgLsn>(column).map(lsn).map_err(doing("read the settlement"))
    };
    Ok(Settlement { settled_lsn: read("settled_lsn")?, read_ahead_lsn: read("read_ahead_lsn")? })
}

/// Stores that documents may be rendered from reads up to `lsn`. Never goes back.
///
/// # Errors
/// [`QueueError::LeaseLost`], [`QueueError::Database`].
pub async fn raise_read_ahead(client: &Client, lease: &Lease, lsn: Lsn) -> Result<(), QueueError> {
    let guard = LeasedTransaction::prepare(client, lease).await?;
    guard
        .run(client, async {
            let failed = doing("store the read-ahead position");
            client.batch_execute(LOCK_SETTLEMENT).await.map_err(&failed)?;
            let raised = client.execute(RAISE_READ_AHEAD, &[&lease.slot, &pg_lsn(lsn)]).await;
            raised.map(drop).map_err(failed)
        })
        .await
}

/// The row is updated by its place elsewhere (record_position.sql), which is only right where no other
/// transaction moves it meanwhile.
const LOCK_POSITION: &str = "lock table walferry.position in exclusive mode";

const LOCK_SETTLEMENT: &str = "lock table walferry.settlement in exclusive mode";

const RAISE_RECORDED_END: &str = "update walferry.position
    set recorded_end_lsn = greatest(recorded_end_lsn, $2) where slot = $1";

/// Stores that everything up to `lsn` is recorded, where no job says so: the WAL held no change of
/// a configured table. Never goes back.
///
/// # Errors
/// [`QueueError::LeaseLost`], [`QueueError::Database`].
pub async fn raise_recorded_end(
    client: &Client,
    lease: &Lease,
    lsn: Lsn,
) -> Result<(), QueueError> {
    let guard = LeasedTransaction::prepare(client, lease).await?;
    guard
        .run(client, async {
            client.batch_execute(LOCK_POSITION).await.map_err(doing("store the recorded end"))?;
            let raised = client.execute(RAISE_RECORDED_END, &[&lease.slot, &pg_lsn(lsn)]).await;
            raised.map(drop).map_err(doing("store the recorded end"))
        })
        .await
}
