//! Read transactions on the source tables, in snapshots that show what the stream delivered.
//!
//! Each [`ReadTransaction`] is one `repeatable read` transaction whose snapshot shows every
//! transaction that the stream has delivered. Its snapshot LSN is the server's insert LSN, taken
//! after the snapshot. Values come as text, by each type's output function, and become JSON in
//! the same way as those of the stream; so a value that `to_jsonb` refuses can be read too.
//!
//! Not here: the queries (`query`), and what is read and why (`plan`, `fanout`, `chunk`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, Statement};

use super::visible::{Delivered, DeliveredXid, Snapshot};
use crate::ack::memory::{Memory, MemoryHold, MemoryPart};
use crate::change::{Columns, CutValues, Lsn, Row, TableId};
use crate::engine::document::shape::{Shapes, TableShape};
use crate::postgres::catalog::table::LackingColumn;
use crate::postgres::lock::{LIMIT_WAITS, LockError, LockMode, TableLocks};
use crate::postgres::{Disposition, Recovery};
use crate::telemetry::waits::{WaitGuard, WaitName, Waits};
use crate::value::TypeCache;

/// The wait between two attempts at a snapshot that shows all; doubles up to `RETRY_MAX`.
const RETRY_MIN: Duration = Duration::from_millis(1);
const RETRY_MAX: Duration = Duration::from_millis(100);

/// The time to wait for the locks of a read transaction. The error that follows ends the run, so
/// that its reason is reported.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// A read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("could not read rows of {table}")]
    Rows {
        table: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("{0}")]
    Lacking(LackingColumn),
    #[error("could not open a read transaction")]
    Open(#[source] tokio_postgres::Error),
    #[error(transparent)]
    Lock(LockError),
    #[error("the server printed {0:?} where a snapshot or an LSN was expected")]
    Unreadable(String),
}

impl Recovery for ReadError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Rows { source, .. } | Self::Open(source) => source.disposition(),
            Self::Lock(error) => error.disposition(),
            Self::Lacking(_) => Disposition::Operator,
            Self::Unreadable(_) => Disposition::Retry,
        }
    }
}

/// A row with its key's text, as [`TableShape::key_text`] makes it.
#[derive(Clone, Debug)]
pub struct KeyedRow {
    pub key: String,
    pub row: Row,
}

/// Opens [`ReadTransaction`]s on one session of its own.
pub struct RowReader {
    pub(super) client: Arc<Client>,
    pub(super) shapes: Shapes,
    pub(super) kinds: TypeCache,
    pub(super) columns: HashMap<TableId, Arc<Columns>>,
    pub(super) statements: HashMap<String, Statement>,
    /// Locks before the snapshot: a rewriting ALTER TABLE that commits between the two would
    /// leave the snapshot an empty table (PostgreSQL manual, "Caveats" of MVCC). Once they are
    /// held, no statement of the transaction waits for a table.
    begin: String,
    locks: TableLocks,
    delivered: Delivered,
    waits: Waits,
    /// Counts the rows of the last transaction.
    pub(super) rows: MemoryHold,
    /// Bytes of a row's text above which its large values are not read.
    pub(super) row_bytes_max: usize,
}

impl RowReader {
    /// A reader of these tables. Its session must have no other user.
    #[must_use]
    pub fn new(client: Arc<Client>, shapes: Shapes) -> Self {
        let tables: Vec<String> = shapes.iter().map(TableShape::qualified).collect();
        Self {
            begin: format!(
                "begin isolation level repeatable read read only; {LIMIT_WAITS}; \
                 lock table {} in access share mode; set local lock_timeout = 0",
                shapes.iter().map(TableShape::own_rows).collect::<Vec<_>>().join(", ")
            ),
            locks: TableLocks { tables, mode: LockMode::AccessShare, patience: LOCK_PATIENCE },
            client,
            shapes,
            kinds: TypeCache::new(),
            columns: HashMap::new(),
            statements: HashMap::new(),
            delivered: Delivered::default(),
            waits: Waits::default(),
            rows: Memory::default().hold(MemoryPart::Rows, 0),
            row_bytes_max: CutValues::ROW_BYTES_MAX,
        }
    }

    /// Reports there what it waits for.
    pub fn report_waits(&mut self, waits: Waits) {
        self.waits = waits;
    }

    /// Counts there the rows that it reads.
    pub fn report_memory(&mut self, memory: &Memory) {
        self.rows = memory.hold(MemoryPart::Rows, 0);
    }

    /// Reads large values only of rows with at most this much text.
    pub fn limit_rows(&mut self, bytes_max: usize) {
        self.row_bytes_max = bytes_max;
    }

    /// Waits for locks no longer than this.
    pub fn limit_lock_waits(&mut self, patience: Duration) {
        self.locks.patience = patience;
    }

    /// Begins a transaction whose snapshot shows everything delivered; waits for as long as it takes.
    ///
    /// # Errors
    /// [`ReadError`] where the session is broken, or a table stays locked.
    pub async fn begin(&mut self) -> Result<ReadTransaction<'_>, ReadError> {
        let waiting = self.waits.begin(WaitName::Snapshot);
        self.rows.set(0);
        let mut wait = RETRY_MIN;
        let mut foreign_forgotten = false;
        loop {
            self.lock().await?;
            let row = self
                .client
                .query_one(
                    "select pg_catalog.pg_current_snapshot()::text,
                            pg_catalog.pg_current_wal_insert_lsn()::text",
                    &[],
                )
                .await
                .map_err(ReadError::Open)?;
            let snapshot: String = row.get(0);
            let snapshot_lsn: String = row.get(1);
            let snapshot =
                Snapshot::parse(&snapshot).ok_or_else(|| ReadError::Unreadable(snapshot))?;
            let snapshot_lsn: Lsn =
                snapshot_lsn.parse().map_err(|_| ReadError::Unreadable(snapshot_lsn))?;
            if self.delivered.all_in(&snapshot) {
                drop(waiting);
                let reading = self.waits.begin(WaitName::Read);
                return Ok(ReadTransaction {
                    reader: self,
                    snapshot,
                    snapshot_lsn,
                    _reading: reading,
                });
            }
            self.execute("rollback").await?;
            if !foreign_forgotten && self.delivered.may_be_foreign(&snapshot) {
                foreign_forgotten = true;
                self.forget_foreign().await?;
                continue;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Begins a transaction that holds its locks.
    async fn lock(&self) -> Result<(), ReadError> {
        let begun = self.locks.retry(&self.client, || self.client.batch_execute(&self.begin)).await;
        begun.map_err(|error| match error {
            LockError::Database(source) => ReadError::Open(source),
            blocked @ LockError::Blocked { .. } => ReadError::Lock(blocked),
        })
    }

    /// Forgets the xids that this cluster has not assigned yet. Costs it one.
    async fn forget_foreign(&mut self) -> Result<(), ReadError> {
        let sql = "select pg_catalog.pg_current_xact_id()::text";
        let row = self.client.query_one(sql, &[]).await.map_err(ReadError::Open)?;
        let text: String = row.get(0);
        let next: u64 = text.parse().map_err(|_| ReadError::Unreadable(text))?;
        let transactions = self.delivered.forget_foreign(next);
        if transactions > 0 {
            tracing::warn!(
                event = "foreign_xids",
                transactions,
                "jobs name transactions that this cluster has not begun, as after a restore of a dump; \
                 their rows are read as they are"
            );
        }
        Ok(())
    }

    /// This transaction was delivered: every later snapshot must show it.
    pub fn delivered(&mut self, xid: DeliveredXid) {
        self.delivered.note(xid);
    }

    /// How many delivered transactions are remembered.
    #[must_use]
    pub fn delivered_count(&self) -> usize {
        self.delivered.len()
    }

    /// Forgets the delivered transactions that a snapshot shows by now. Waits for none.
    ///
    /// # Errors
    /// [`ReadError`] where the session is broken.
    pub async fn prune(&mut self) -> Result<(), ReadError> {
        let sql = "select pg_catalog.pg_current_snapshot()::text";
        let row = self.client.query_one(sql, &[]).await.map_err(ReadError::Open)?;
        let text: String = row.get(0);
        let snapshot = Snapshot::parse(&text).ok_or(ReadError::Unreadable(text))?;
        self.delivered.all_in(&snapshot);
        Ok(())
    }

    async fn execute(&self, sql: &str) -> Result<(), ReadError> {
        self.client.batch_execute(sql).await.map_err(ReadError::Open)
    }
}

/// One read transaction, ended by [`ReadTransaction::commit`]. A transaction that an error drops
/// stays open on its session; the error ends the run, and the session with it.
pub struct ReadTransaction<'a> {
    pub(super) reader: &'a mut RowReader,
    snapshot: Snapshot,
    snapshot_lsn: Lsn,
    _reading: WaitGuard,
}

impl ReadTransaction<'_> {
    /// Every row read here is no newer than this, and no older than what was delivered.
    #[must_use]
    pub fn snapshot_lsn(&self) -> Lsn {
        self.snapshot_lsn
    }

    /// The snapshot that the rows are read in.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Ends the transaction.
    ///
    /// # Errors
    /// [`ReadError::Open`] where the session is broken.
    pub async fn commit(self) -> Result<(), ReadError> {
        self.reader.execute("commit").await
    }
}
