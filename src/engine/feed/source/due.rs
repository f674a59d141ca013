//! Jobs that no cursor will meet: retries that are due, what an operator made `pending`, and rows
//! that something else inserted.
//!
//! They go through the one feed, between its batches: rendered by reads, each under its own
//! version, so what is newer in Elasticsearch stays. A row without a place in the stream gets that of
//! a moment just now, if every transaction from before it has ended: all that committed before it is
//! in the read, and all that commits after it has a higher version. So a document that somebody wrote
//! by hand, which raised its version by one, is put right. While a long transaction is under way such
//! rows wait, a minute at most; then they get the place of the last change worked on: the read
//! shows its transaction as a whole, hence the highest ordinal. They are claimed only once they can
//! have a place, and retries do not wait for them.
//!
//! Not here: finding them (`storage::queue::claim`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::change::{Change, Columns, Operation, Position, Row};
use crate::engine::feed::render::read::ReadError;
use crate::engine::feed::{Feed, FeedError};
use crate::storage::queue::claim::Job;

/// Batches of one look, so that the stream is not kept waiting; the next look has the rest.
const BATCHES_MAX: usize = 4;

/// Looks for the end of all transactions from before a moment; with a long one under way there is
/// none.
const LOOKS_MAX: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Jobs without a place wait for the end of a long transaction, but not for ever.
const UNPLACED_MAX: Duration = Duration::from_secs(60);

/// First the moment, then a transaction id: whoever has a commit record before the moment had its id
/// before this one.
const MOMENT: &str = "select moment::text, pg_catalog.pg_current_xact_id()::text
    from (select pg_catalog.pg_current_wal_insert_lsn() as moment offset 0) first";

/// No transaction of this database (or a prepared one, which tells no database) with an id before
/// `$1` is under way. A transaction holds its id's lock until snapshots show it (`CommitTransaction`:
/// `ProcArrayEndTransaction` comes before the locks are released).
const ENDED: &str = "select not exists (
    select from pg_catalog.pg_locks l
    left join pg_catalog.pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted
      and pg_catalog.age(l.transactionid) > pg_catalog.age($1::text::xid8::xid)
      and (a.datname is null or a.datname = pg_catalog.current_database()))";

impl Feed {
    /// Works on what is due. `behind` is the table feed's cursor; `None` while live.
    pub(in crate::engine::feed) async fn take_due(
        &mut self,
        behind: Option<Position>,
    ) -> Result<(), FeedError> {
        for _ in 0..BATCHES_MAX {
            if self.stop.is_cancelled() || *self.halted.borrow() {
                return Ok(());
            }
            let mut jobs = self.claims.due(behind, self.claim_max).await?;
            if jobs.is_empty() && self.has_place().await? {
                jobs = self.claims.without_position(self.claim_max).await?;
            }
            if jobs.is_empty() {
                return Ok(());
            }
            self.table_batch(jobs).await?;
        }
        // Not all of it: look again soon.
        self.poke.notify_one();
        Ok(())
    }

    /// Whether jobs without a place are due and can have one, which is [`Feed::place`] then.
    async fn has_place(&mut self) -> Result<bool, FeedError> {
        if !self.claims.any_without_position().await? {
            self.unplaced_since = None;
            return Ok(false);
        }
        if let Some(place) = self.place_of_now().await? {
            (self.place, self.unplaced_since) = (self.place.max(place), None);
            return Ok(true);
        }
        let since = *self.unplaced_since.get_or_insert_with(|| {
            tracing::debug!(
                event = "unplaced_jobs_wait",
                "jobs without a place in the stream wait for the end of an older transaction"
            );
            Instant::now()
        });
        if since.elapsed() < UNPLACED_MAX {
            return Ok(false);
        }
        // Not before what such a job had last.
        self.place = self.place.max(Position { ordinal: u64::from(u16::MAX), ..self.fed });
        Ok(true)
    }

    /// The insert LSN of now, if whoever may have committed before it can be seen.
    async fn place_of_now(&self) -> Result<Option<Position>, FeedError> {
        let row = self.control.query_one(MOMENT, &[]).await.map_err(ReadError::Open)?;
        let (moment, mark): (String, String) = (row.get(0), row.get(1));
        for _ in 0..LOOKS_MAX {
            let row = self.control.query_one(ENDED, &[&mark]).await.map_err(ReadError::Open)?;
            if row.get(0) {
                let commit_lsn = moment.parse().map_err(|_| ReadError::Unreadable(moment))?;
                return Ok(Some(Position { commit_lsn, ordinal: 0 }));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(None)
    }

    /// A job's change, with a place in the stream and with a key: that of `record_id` where
    /// `change_data` tells none, as after somebody's edit.
    pub(in crate::engine::feed) fn placed(&self, job: Job) -> Change {
        let mut change = job.change;
        if job.external {
            change.position = self.place;
        }
        let shape = self.shapes.of(change.table);
        if self.names_a_row(&change) || !shape.has_uuid_key() {
            return change;
        }
        let key = Arc::new(Columns::new(vec![shape.key[0].name.clone()]));
        let text = serde_json::json!({ &shape.key[0].name: job.record_id.to_string() }).to_string();
        change.old = Row::parse(&text, Some(&key)).ok();
        change.new = None;
        change.operation = Operation::Update;
        change.incomplete = true;
        change
    }

    /// Whether it can be known which rows a change is about.
    pub(in crate::engine::feed) fn names_a_row(&self, change: &Change) -> bool {
        let shape = self.shapes.of(change.table);
        let has_key =
            |row: &Option<Row>| row.as_ref().is_some_and(|row| !shape.key_parts(row).is_empty());
        change.operation == Operation::Truncate || has_key(&change.old) || has_key(&change.new)
    }
}
