//! A moment whose transactions have all ended: what committed before it is in every later snapshot,
//! and what commits after it has a higher position.

use tokio_postgres::Client;

use crate::change::Lsn;
use crate::engine::feed::render::read::ReadError;

/// First the moment, then a transaction id: a transaction with a commit record before the moment
/// drew its id before this one.
const MOMENT: &str = "select moment::text as moment, pg_catalog.pg_current_xact_id()::text as xid
    from (select pg_catalog.pg_current_wal_insert_lsn() as moment offset 0) first";

/// No transaction of this database (or a prepared one, which names no database) with an id before
/// `$1` is running. A transaction holds its id's lock until snapshots show it (`CommitTransaction`:
/// `ProcArrayEndTransaction` comes before the locks are released).
const ENDED: &str = "select not exists (
    select from pg_catalog.pg_locks l
    left join pg_catalog.pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted
      and pg_catalog.age(l.transactionid) > pg_catalog.age($1::text::xid8::xid)
      and (a.datname is null or a.datname = pg_catalog.current_database()))";

/// The insert LSN of a moment, with a transaction id drawn just after it.
#[derive(Clone, Debug)]
pub struct EndingMoment {
    pub lsn: Lsn,
    xid: String,
}

impl EndingMoment {
    /// Now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn now(client: &Client) -> Result<Self, ReadError> {
        let row = client.query_one(MOMENT, &[]).await.map_err(ReadError::Open)?;
        let moment: String = row.get("moment");
        let xid: String = row.get("xid");
        let lsn: Lsn = moment.parse().map_err(|_| ReadError::Unreadable(moment))?;
        Ok(Self { lsn, xid })
    }

    /// Whether every transaction that may have committed before it has ended.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn is_settled(&self, client: &Client) -> Result<bool, ReadError> {
        let row = client.query_one(ENDED, &[&self.xid]).await.map_err(ReadError::Open)?;
        Ok(row.get(0))
    }
}
