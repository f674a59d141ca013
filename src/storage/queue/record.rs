//! Change → job: a batch of rows and the position of its last change, in one transaction.
//!
//! Exactly one row per change: what is at or below the stored position is refused here, so the
//! caller drops replayed changes first. A row that jsonb does not take is recorded altered, with a
//! note; no row stalls the stream.
//!
//! Not here: what makes up a batch, and where it goes next.

use std::collections::HashMap;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::future::join4;
use tokio_postgres::{Client, CopyInSink, Statement};

use super::copy::{self, Altered, CopyText, Source, Stamp};
use super::job_counts::{Counter, Delta};
use super::lossy;
use super::lossy::{CHANGE_BYTES_MAX, Remedy};
use super::record_id::TableKeys;
use super::status::Status;
use crate::change::Micros;
use crate::change::{Change, Lsn, Position};
use crate::storage::lease::Lease;
use crate::storage::leased_transaction::LeasedTransaction;
use crate::storage::position;
use crate::storage::position::StoredPosition;
use crate::storage::sql::{bigint, pg_lsn, widen_xid};
use crate::storage::{QueueError, doing};

const ADVANCE: &str = include_str!("record_position.sql");

/// COPY data is sent in pieces of this, so that the server need not hold a batch at once.
const PIECE_BYTES: usize = 256 << 10;

/// For errors.
const RECORDING: &str = "record changes";

/// Writes jobs, alone, in the order of commit.
#[derive(Debug)]
pub struct Recorder {
    client: Client,
    guard: LeasedTransaction,
    keys: Arc<TableKeys>,
    copy: Statement,
    advance: Statement,
    counter: Counter,
    rows: CopyText,
    recorded: Position,
    /// Where the row of the position was written last.
    place: Option<String>,
    /// A 64-bit transaction id near those of the stream.
    xid_reference: u64,
    /// The database's clock less this machine's, as of the last transaction.
    clock_offset: i64,
}

impl Recorder {
    /// A recorder on a connection of its own. `xid_reference` is a 64-bit transaction id of now
    /// (`pg_snapshot_xmax(pg_current_snapshot())`).
    ///
    /// # Errors
    /// [`QueueError::NoPosition`] before [`position::store`], [`QueueError::LeaseLost`],
    /// [`QueueError::Database`].
    pub async fn new(
        client: Client,
        lease: &Lease,
        keys: Arc<TableKeys>,
        xid_reference: u64,
    ) -> Result<Self, QueueError> {
        let guard = LeasedTransaction::prepare(&client, lease).await?;
        let copy = client.prepare(copy::COPY).await.map_err(doing("prepare the COPY"))?;
        let counter = Counter::prepare(&client, lease, "record").await?;
        let advance = client.prepare(ADVANCE).await.map_err(doing("prepare the position"))?;
        // Under the lease, so that no older recorder can move the position afterwards.
        let (stored, clock) = guard.begin(&client, position::load(&client, &lease.slot)).await?;
        crate::storage::leased_transaction::commit(&client).await?;
        let Some(StoredPosition { recorded, .. }) = stored else {
            return Err(QueueError::NoPosition { slot: lease.slot.clone() });
        };
        Ok(Self {
            client,
            guard,
            keys,
            copy,
            advance,
            counter,
            rows: CopyText::default(),
            recorded,
            place: None,
            xid_reference,
            clock_offset: clock.0 - Micros::now().0,
        })
    }

    /// The position of the last change recorded.
    #[must_use]
    pub fn recorded(&self) -> Position {
        self.recorded
    }

    /// The change's transaction id with its epoch.
    #[must_use]
    pub fn full_xid(&self, xid: u32) -> u64 {
        widen_xid(xid, self.xid_reference)
    }

    /// Records `changes` as `status`: `processing` where they are handed over at once, else
    /// `pending`. `end_lsn` is the end of the last commit that the batch completes.
    ///
    /// Returns when all are durable. On an error a first part of the batch may be; the stored
    /// position tells which.
    ///
    /// # Errors
    /// [`QueueError::NotAdvancing`] for a change that is already recorded,
    /// [`QueueError::LeaseLost`], [`QueueError::Database`], [`QueueError::Refused`] for what no
    /// remedy helps against.
    pub async fn write(
        &mut self,
        changes: &[Change],
        status: Status,
        end_lsn: Option<Lsn>,
    ) -> Result<(), QueueError> {
        self.check_order(changes)?;
        let mut altered = Alterations::of_large(changes);
        // Ranges still to be written, the next one last. A refused range is halved, in order, and
        // each part is a transaction with a position of its own, until the row stands alone.
        let mut ranges = Vec::from([Range { start: 0, end: changes.len() }]);
        while let Some(range) = ranges.pop() {
            if range.is_empty() {
                continue;
            }
            let end_lsn = end_lsn.filter(|_| range.end == changes.len());
            self.encode(changes, range.clone(), status, &altered);
            let mut delta = Delta::default();
            delta.came(changes[range.clone()].iter().map(|change| change.committed_at), status);
            match self.send(changes[range.end - 1].position, end_lsn, &delta).await {
                Err(QueueError::Refused { what, code }) if may_be_poison(&code) => {
                    if range.len() > 1 {
                        let middle = range.start + range.len() / 2;
                        ranges.extend([middle..range.end, range.start..middle]);
                    } else if altered.worsen(changes, range.start, &code) {
                        ranges.push(range);
                    } else {
                        return Err(QueueError::Refused { what, code });
                    }
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn check_order(&self, changes: &[Change]) -> Result<(), QueueError> {
        let mut stored = self.recorded;
        for change in changes {
            // The position of a fresh slot is zero, which no commit has.
            if change.position <= stored {
                return Err(QueueError::NotAdvancing { next: change.position, stored });
            }
            stored = change.position;
        }
        Ok(())
    }

    /// One transaction with the rows encoded last, of which `last` is the last one.
    async fn send(
        &mut self,
        last: Position,
        end_lsn: Option<Lsn>,
        delta: &Delta,
    ) -> Result<(), QueueError> {
        let begin = self.guard.begin_counted(&self.client, async {
            self.client.copy_in::<_, Bytes>(&self.copy).await.map_err(doing(RECORDING))
        });
        let (sink, clock) = begin.await?;
        self.clock_offset = clock.0 - Micros::now().0;
        self.finish(sink, last, end_lsn, delta).await?;
        self.recorded = last;
        Ok(())
    }

    fn encode(
        &mut self,
        changes: &[Change],
        range: Range<usize>,
        status: Status,
        altered: &Alterations,
    ) {
        let started_at = Micros(Micros::now().0.saturating_add(self.clock_offset));
        let stamp = Stamp { status, started_at, epoch: self.guard.lease().epoch };
        self.rows.begin();
        for index in range {
            let change = &changes[index];
            let xid = widen_xid(change.xid, self.xid_reference);
            self.xid_reference = self.xid_reference.max(xid);
            let source = Source { change, xid, altered: altered.get(index) };
            copy::row(&mut self.rows, source, stamp, &self.keys);
        }
    }

    /// Sends the rows, the position, the count and the commit in one go. A COPY that fails makes
    /// those behind it failures and a rollback.
    async fn finish(
        &mut self,
        sink: CopyInSink<Bytes>,
        last: Position,
        end_lsn: Option<Lsn>,
        delta: &Delta,
    ) -> Result<(), QueueError> {
        let pieces = self.rows.end();
        let copied = async {
            let mut sink = pin!(sink);
            for mut rows in pieces {
                while !rows.is_empty() {
                    let piece = rows.split_to(rows.len().min(PIECE_BYTES));
                    sink.feed(piece).await?;
                }
            }
            sink.finish().await
        };
        let slot = &self.guard.lease().slot;
        let lsn = pg_lsn(last.commit_lsn);
        let ordinal = bigint(last.ordinal);
        let end = end_lsn.map(pg_lsn);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [slot, &lsn, &ordinal, &end, &self.place];
        let (copied, advanced, counted, committed) = join4(
            copied,
            self.client.query_opt(&self.advance, &parameters),
            self.counter.add(&self.client, delta),
            self.client.batch_execute("commit"),
        )
        .await;
        copied.map_err(doing(RECORDING))?;
        let advanced = advanced.map_err(doing("advance the stored position"))?;
        counted?;
        committed.map_err(doing("commit recorded changes"))?;
        // The lease was held, so no other instance can have moved it: else the table was edited.
        let stored = self.recorded;
        let advanced = advanced.ok_or(QueueError::NotAdvancing { next: last, stored })?;
        let place = advanced.try_get("place").map_err(doing("advance the stored position"))?;
        self.place = Some(place);
        Ok(())
    }
}

/// A data exception or an exceeded limit: the row's own doing.
fn may_be_poison(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("54")
}

/// Rows of a batch whose `change_data` differs from the change.
#[derive(Default)]
struct Alterations(HashMap<usize, (Remedy, Altered)>);

impl Alterations {
    fn of_large(changes: &[Change]) -> Self {
        let mut altered = Self::default();
        for (index, change) in changes.iter().enumerate() {
            if lossy::text_bytes(change) > CHANGE_BYTES_MAX {
                altered.set(changes, index, Remedy::Cut, "too large");
            }
        }
        altered
    }

    fn get(&self, index: usize) -> Option<&Altered> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&index).map(|(_, altered)| altered)
    }

    /// Takes the next remedy; false when there is none left.
    fn worsen(&mut self, changes: &[Change], index: usize, code: &str) -> bool {
        let tried = self.0.get(&index).map(|(remedy, _)| *remedy);
        let Some(remedy) = Remedy::next(tried) else { return false };
        self.set(changes, index, remedy, code);
        true
    }

    fn set(&mut self, changes: &[Change], index: usize, remedy: Remedy, cause: &str) {
        let mut outcome = lossy::alter(&changes[index], remedy, cause);
        let mut remedy = remedy;
        if outcome.change_data.len() > CHANGE_BYTES_MAX {
            remedy = Remedy::Digest;
            outcome = lossy::alter(&changes[index], remedy, cause);
        }
        self.0.insert(index, (remedy, outcome));
    }
}
