//! Does what operators ask for beside the stream: one operation at a time, the oldest first.
//!
//! The duty chooses the rows and hands them to the feed in chunks; so versions, the lease and the
//! order of actions on a document are the feed's, as for every other row. A chunk's progress is
//! stored with its settlement. After a crash, a stop or a pause the operation goes on from there.
//! A cancellation or a pause is a state in the table that the duty sees within half a second.
//!
//! Not here: asking for operations (`admin::operation`), rendering (`feed::source::operation`).

pub mod keys;
mod log;
pub mod settled;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_postgres::Client;

use crate::ack::batch::ChunkPurpose;
use crate::change::{Lsn, TableId};
use crate::config::Database;
use crate::engine::control::ClosedIndices;
use crate::engine::document::definition::Definition;
use crate::engine::document::shape::Shapes;
use crate::engine::feed::render::read::ReadError;
use crate::engine::feed::source::moment::EndingMoment;
use crate::engine::feed::source::operation::OperationChunk;
use crate::engine::sink::client;
use crate::postgres::error::sentence;
use crate::storage::QueueError;
use crate::storage::lease::Lease;
use crate::storage::operation::{self, BegunOperation, OperationKind};
use keys::{KeySource, Keys};
use settled::StagesSeen;

/// Between two queries for an operation to begin.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two queries for the state of the operation that goes on.
const STATE_EVERY: Duration = Duration::from_millis(500);
/// Between two queries for the end of the transactions that ran at W.
const MOMENT_AGAIN: Duration = Duration::from_millis(50);
/// Chunks between the duty and their settlement: one is rendered while another is on its way.
const CHUNKS_MAX: usize = 2;

/// What the duty is made of.
pub struct OperationParts {
    /// The duty's own session.
    pub session: Client,
    /// Where an operation reads its keys, on a session of its own.
    pub database: Database,
    pub lease: Lease,
    pub shapes: Shapes,
    pub definition: Arc<Definition>,
    /// The names of the indices that show a table's rows, by table.
    pub indices: Vec<Vec<String>>,
    /// The names of all indices, in the definition's order.
    pub index_names: Arc<[String]>,
    pub elasticsearch: Arc<client::Client>,
    pub seen: StagesSeen,
    /// Bytes of a row's text above which its large values are not read.
    pub row_bytes_max: usize,
    /// The indices that take no documents.
    pub closed: watch::Receiver<ClosedIndices>,
    /// To the feed.
    pub chunks: mpsc::Sender<OperationChunk>,
    /// Rows of a chunk.
    pub chunk_rows: usize,
}

/// The duty.
pub struct Operations {
    parts: OperationParts,
    /// Chunks that are not settled.
    permits: Arc<Semaphore>,
    /// Held while progress is stored: an operation is not dropped in the middle of a transaction.
    storing: Mutex<()>,
}

/// Why an operation does not go on.
#[derive(Debug)]
enum OperationFault {
    /// Another attempt fails in the same way.
    Refused(String),
    /// Another attempt may succeed.
    Passing(String),
}

impl From<tokio_postgres::Error> for OperationFault {
    /// By the class of the SQLSTATE: connections, rollbacks, resources, interventions, the system.
    fn from(error: tokio_postgres::Error) -> Self {
        const PASSING: [&str; 7] = ["08", "40", "53", "55", "57", "58", "XX"];
        let code = error.code().map(|code| code.code());
        let is_refused = code.is_some_and(|code| !PASSING.iter().any(|c| code.starts_with(c)));
        let sentence = sentence(&error);
        if is_refused { Self::Refused(sentence) } else { Self::Passing(sentence) }
    }
}

impl From<ReadError> for OperationFault {
    fn from(error: ReadError) -> Self {
        Self::Passing(sentence(&error))
    }
}

impl From<QueueError> for OperationFault {
    fn from(error: QueueError) -> Self {
        Self::Passing(sentence(&error))
    }
}

impl Operations {
    /// The duty of one run.
    #[must_use]
    pub fn new(parts: OperationParts) -> Self {
        Self { parts, permits: Arc::new(Semaphore::new(CHUNKS_MAX)), storing: Mutex::default() }
    }
}

/// Does one operation after the other until the run ends.
///
/// # Errors
/// [`QueueError`], which ends the run.
pub async fn run(operations: Operations) -> Result<(), QueueError> {
    let OperationParts { session, lease, .. } = &operations.parts;
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if !operation::is_any_open(session, &lease.slot).await? {
            continue;
        }
        if let Some(begun) = operation::begin(session, lease).await? {
            operations.execute(&begun).await?;
        }
    }
}

impl Operations {
    /// Goes on with an operation until it has ended, or is paused.
    async fn execute(&self, begun: &BegunOperation) -> Result<(), QueueError> {
        log::begun(begun);
        let work = async {
            match begun.kind {
                OperationKind::Backfill => self.backfill(begun).await,
                OperationKind::Verify => self.verify(begun).await,
            }
        };
        let result = tokio::select! {
            result = work => result,
            over = self.over(begun.id) => over.map_err(OperationFault::from),
        };
        match result {
            Ok(()) => log::over(begun),
            Err(OperationFault::Refused(error)) => {
                log::failed(begun, &error);
                operation::fail(&self.parts.session, &self.parts.lease, begun.id, &error).await?;
            }
            Err(OperationFault::Passing(error)) => log::interrupted(begun, &error),
        }
        // What is on its way moves the stored progress, from which the next attempt goes on.
        self.all_chunks_settled().await;
        Ok(())
    }

    /// Returns once the operation has ended, or is paused, and its progress is not being stored.
    async fn over(&self, id: i64) -> Result<(), QueueError> {
        loop {
            sleep(STATE_EVERY).await;
            if !operation::is_running(&self.parts.session, id).await? {
                drop(self.storing.lock().await);
                return Ok(());
            }
        }
    }

    /// Hands all rows to the feed. Returns an error only: the last chunk ends the operation when it
    /// settles.
    async fn backfill(&self, begun: &BegunOperation) -> Result<(), OperationFault> {
        let table = self.table(&begun.table)?;
        let session = self.own_session("backfill").await?;
        let shape = self.parts.shapes.of(table);
        let mut keys = KeySource::open(session, shape, begun, self.parts.chunk_rows).await?;
        let moment = self.settled_moment(begun.id).await?;
        let mut pace = Pace::new(begun.rate_max);
        let mut row_count = begun.progress.row_count;
        loop {
            self.indices_open(begun.id, table).await?;
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.expect("the duty never closes its own semaphore");
            let Keys { keys, last_key } = keys.next().await?;
            let rows = keys.len();
            row_count += rows as u64;
            let purpose = ChunkPurpose::Backfill(begun.id);
            let orphans = Vec::new();
            let chunk = OperationChunk {
                purpose,
                table,
                keys,
                orphans,
                moment,
                last_key,
                row_count,
                permit,
            };
            if self.parts.chunks.send(chunk).await.is_err() || rows == 0 {
                // The run ends, or the operation with the last chunk.
                std::future::pending::<()>().await;
            }
            pace.sent(rows).await;
        }
    }

    fn table(&self, label: &str) -> Result<TableId, OperationFault> {
        let mut tables = (0..).map(TableId).zip(self.parts.shapes.iter());
        let found = tables.find(|(_, shape)| shape.label() == label);
        found.map(|(table, _)| table).ok_or_else(|| {
            OperationFault::Refused(format!(
                "table {label} is not in the definition of the running walferry; start it anew with \
                 the present definition"
            ))
        })
    }

    /// W, after everything that ran at W has ended.
    async fn settled_moment(&self, id: i64) -> Result<Lsn, OperationFault> {
        const WAITS_FOR: &str = "the end of transactions that began before it (pg_stat_activity)";
        let moment = EndingMoment::now(&self.parts.session).await?;
        let mut is_noted = false;
        while !moment.is_settled(&self.parts.session).await? {
            if !std::mem::replace(&mut is_noted, true) {
                operation::note_wait(&self.parts.session, id, WAITS_FOR).await?;
            }
            sleep(MOMENT_AGAIN).await;
        }
        Ok(moment.lsn)
    }

    /// Returns once every index of the table takes documents; else each row would become a job.
    async fn indices_open(&self, id: i64, table: TableId) -> Result<(), OperationFault> {
        let indices = &self.parts.indices[usize::from(table.0)];
        let mut closed = self.parts.closed.clone();
        let waiting = indices.iter().find(|index| closed.borrow().contains(*index));
        let Some(waiting) = waiting.cloned() else { return Ok(()) };
        let note = format!("index {waiting}, which takes no documents");
        operation::note_wait(&self.parts.session, id, &note).await?;
        let open = closed.wait_for(|closed| !indices.iter().any(|index| closed.contains(index)));
        if open.await.is_err() {
            std::future::pending::<()>().await; // the sink has ended, and so does the run
        }
        Ok(())
    }
}

/// Spreads rows over time.
struct Pace {
    rate_max: Option<u32>,
    next: Instant,
}

impl Pace {
    fn new(rate_max: Option<u32>) -> Self {
        Self { rate_max, next: Instant::now() }
    }

    /// Returns once the next rows may follow.
    async fn sent(&mut self, rows: usize) {
        let Some(rate) = self.rate_max else { return };
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let now = Instant::now();
        self.next = self.next.max(now) + Duration::from_secs(1) * rows / rate.max(1);
        sleep_until(self.next).await;
    }
}
