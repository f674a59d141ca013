//! Waits until everything that has committed by now is in the documents.
//!
//! Not here: jobs that wait for another attempt or for an index. What they have not written differs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::OperationFault;
use crate::change::Lsn;
use crate::engine::control::{IndexingReport, SettlementProgress};
use crate::engine::wal::StreamStats;
use crate::storage::operation;

/// Between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// After this time the operation says what it waits for.
const SAID_AFTER: Duration = Duration::from_secs(2);
const WAITS_FOR: &str = "the changes before it to be indexed (walferry status)";

/// The end of a page's header, where a position stands that no record has reached yet.
const PAGE_BYTES: u64 = 8192;
const PAGE_HEADER: u64 = 24;
const SEGMENT_BYTES: u64 = 1 << 20;
const SEGMENT_HEADER: u64 = 40;

/// How far the stages of the run have come.
pub struct StagesSeen {
    pub progress: watch::Receiver<SettlementProgress>,
    pub stream: Arc<StreamStats>,
    pub report: watch::Receiver<IndexingReport>,
}

impl StagesSeen {
    /// Returns once the documents have all that has committed by now, fan-outs included.
    pub(super) async fn all_settled(
        &self,
        session: &Client,
        operation: i64,
    ) -> Result<(), OperationFault> {
        let mut wait = Wait { session, operation, since: Instant::now(), is_noted: false };
        let row = session
            .query_one("select pg_catalog.pg_current_wal_insert_lsn()::text as lsn", &[])
            .await?;
        let lsn: String = row.try_get("lsn")?;
        let lsn: Lsn = lsn.parse().map_err(|_| OperationFault::Passing(lsn))?;
        let end = before_header(lsn);
        while !(self.has_passed(end) && self.report.borrow().load_searchable) {
            wait.a_little().await?;
        }
        // A fan-out is stored with the settlement that begins it.
        let last = "select max(f.id) as last from walferry.fanout f";
        let row = session.query_one(last, &[]).await?;
        let Some(last) = row.try_get::<_, Option<i64>>("last")? else { return Ok(()) };
        let open = "select exists (select from walferry.fanout f where f.id <= $1) as is_open";
        while session.query_one(open, &[&last]).await?.try_get("is_open")? {
            wait.a_little().await?;
        }
        Ok(())
    }

    /// All that committed below the end is settled, or the stream is past it and nothing of what it
    /// delivered is open.
    fn has_passed(&self, end: Lsn) -> bool {
        // In this order: what was committed below `received` is in `committed`.
        let received = self.stream.received_lsn.load(Ordering::Acquire);
        let committed = self.stream.committed_lsn.load(Ordering::Acquire);
        let settled = self.progress.borrow().settled.0;
        settled >= end.0 || received >= end.0 && settled >= committed
    }
}

/// A wait that notes itself.
struct Wait<'a> {
    session: &'a Client,
    operation: i64,
    since: Instant,
    is_noted: bool,
}

impl Wait<'_> {
    async fn a_little(&mut self) -> Result<(), OperationFault> {
        if !self.is_noted && self.since.elapsed() > SAID_AFTER {
            self.is_noted = true;
            operation::note_wait(self.session, self.operation, WAITS_FOR).await?;
        }
        sleep(LOOK_EVERY).await;
        Ok(())
    }
}

/// The end of the last record below an insert position: just after a page's header there is none yet.
fn before_header(lsn: Lsn) -> Lsn {
    match lsn.0 {
        at if at % SEGMENT_BYTES == SEGMENT_HEADER => Lsn(at - SEGMENT_HEADER),
        at if at % PAGE_BYTES == PAGE_HEADER => Lsn(at - PAGE_HEADER),
        _ => lsn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_after_a_header_is_that_of_the_page() {
        for (at, end) in
            [(0x200_0028, 0x200_0000), (0x200_2018, 0x200_2000), (0x200_2020, 0x200_2020)]
        {
            assert_eq!(before_header(Lsn(at)), Lsn(end));
        }
    }
}
