//! The stream's loop: messages in, [`Captured`] out, feedback back.
//!
//! One task owns the socket. It reads only while there is room for what it reads, and sends
//! feedback on a timer that nothing can hold up: a blocked stage behind never costs the
//! connection.
//!
//! `received` is what the server sent, `durable` what may be acknowledged; `durable` never
//! passes `received` and neither moves backward.
//!
//! Not here: what `durable` is (`checkpoint`), and reconnecting (`pipeline`).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::error::ReplicationError;
use super::error::TransactionError;
use crate::change::Lsn;
use crate::engine::wal::Captured;
use crate::engine::wal::connection::ReplicationStream;
use crate::engine::wal::error::StreamError;
use crate::engine::wal::feedback::{Progress, StatusTimer};
use crate::engine::wal::pgoutput;
use crate::engine::wal::pgoutput::{Message, Reader, Relation};
use crate::engine::wal::relation::Tables;
use crate::engine::wal::stats::StreamStats;
use crate::engine::wal::transaction::{Assembler, Step};
use crate::postgres::error;
use crate::telemetry::metrics;
use crate::telemetry::metrics::source::Received;
use crate::value::TypeCache;

/// From a reply-requested to the reply, at most: many requests get one reply.
const REPLY_WITHIN: Duration = Duration::from_millis(100);
/// From an advance of the durable LSN to its acknowledgement, at most.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(50);
/// For the server's answer to CopyDone.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What the loop is bounded by.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// Bytes that the WAL must advance without changes of ours before [`Captured::Idle`] says
    /// so; 0 says every advance. A store per mark feeds itself, so not too few.
    pub idle_step: u64,
    /// Items in one chunk.
    pub chunk_items_max: usize,
    /// Bytes of row text in one chunk. A single row may be larger.
    pub chunk_bytes_max: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { idle_step: 1 << 20, chunk_items_max: 2048, chunk_bytes_max: 1 << 20 }
    }
}

/// What the loop is wired to.
#[derive(Debug)]
pub struct Ports {
    /// Where types are looked up that are not built in.
    pub catalog: Arc<tokio_postgres::Client>,
    /// What may be acknowledged; at most what was handed out, or the stream's start.
    pub durable: watch::Receiver<Lsn>,
    /// Chunks, in order. Once its receiver is gone nothing more is read, but feedback goes on
    /// until `shutdown`, so that what is in flight can settle and be acknowledged.
    pub output: mpsc::Sender<Vec<Captured>>,
    pub shutdown: CancellationToken,
    pub stats: Arc<StreamStats>,
    pub metrics: metrics::Source,
}

/// Streams until shutdown, which closes the connection in good order.
///
/// # Errors
/// [`StreamError`] when the connection, the server or the stream's content fails.
pub async fn run(
    stream: ReplicationStream,
    tables: Tables,
    settings: StreamSettings,
    ports: Ports,
) -> Result<(), StreamError> {
    let now = Instant::now();
    let start = stream.start_lsn();
    let period = Duration::from_secs(1).min(stream.sender_timeout() / 3);
    let mut link = Link {
        stream,
        progress: Progress::new(start),
        schedule: StatusTimer::new(period, now),
        stats: Arc::clone(&ports.stats),
        metrics: ports.metrics.clone(),
        seen: ports.metrics.receiver(),
    };
    link.progress.advance_durable(*ports.durable.borrow());
    let metrics = ports.metrics.clone();
    let reader = StreamLoop {
        link,
        settings,
        ports,
        assembler: Assembler::new(tables),
        kinds: TypeCache::new(),
        chunk: Chunk::default(),
        emitted: start,
        heard_at: now,
        held_since: None,
        durable_open: true,
        output_open: true,
        skipped: HashSet::new(),
    };
    reader.run().await.inspect_err(|error| metrics.failed(error.failure()))
}

/// The connection with its feedback: what must go on whatever else is awaited.
struct Link {
    stream: ReplicationStream,
    progress: Progress,
    schedule: StatusTimer,
    stats: Arc<StreamStats>,
    metrics: metrics::Source,
    /// Not yet told to the metrics.
    seen: Received,
}

impl Link {
    async fn feed_back(&mut self) -> Result<(), ReplicationError> {
        let now = Instant::now();
        let reply = self.schedule.sent(now);
        let (received, durable) = (self.progress.received(), self.progress.durable());
        self.stats.acknowledged_lsn.store(durable.0, Ordering::Relaxed);
        self.stats.feedbacks.fetch_add(1, Ordering::Relaxed);
        self.seen.feedbacks += 1;
        self.seen.tell(&self.metrics);
        self.stream.send_status(received, durable, reply).await
    }
}

/// What is to be handed out next.
#[derive(Debug, Default)]
struct Chunk {
    items: Vec<Captured>,
    bytes: usize,
}

impl Chunk {
    fn is_full(&self, settings: &StreamSettings) -> bool {
        self.items.len() >= settings.chunk_items_max || self.bytes >= settings.chunk_bytes_max
    }

    /// Waits for room and fills it; false once nobody takes anything any more. Cancel safe.
    async fn hand_out(&mut self, output: &mpsc::Sender<Vec<Captured>>) -> bool {
        if self.items.is_empty() {
            output.closed().await;
            return false;
        }
        let Ok(room) = output.reserve().await else { return false };
        self.bytes = 0;
        room.send(std::mem::take(&mut self.items));
        true
    }
}

struct StreamLoop {
    link: Link,
    settings: StreamSettings,
    ports: Ports,
    assembler: Assembler,
    kinds: TypeCache,
    chunk: Chunk,
    /// The last position handed out: a commit's end, or an idle mark.
    emitted: Lsn,
    /// When the server last sent something, or was last given the chance to.
    heard_at: Instant,
    durable_open: bool,
    output_open: bool,
    /// Since when there is no room for what would be read.
    held_since: Option<Instant>,
    /// Published tables that are not configured, each warned of once.
    skipped: HashSet<String>,
}

impl StreamLoop {
    async fn run(mut self) -> Result<(), StreamError> {
        loop {
            self.take_buffered().await?;
            let reading = self.output_open && !self.chunk.is_full(&self.settings);
            let patience = self.link.stream.sender_timeout();
            if !reading && self.output_open {
                self.held_since.get_or_insert_with(Instant::now);
            }
            tokio::select! {
                biased; // stop, acknowledge, hand out, and only then take more
                () = self.ports.shutdown.cancelled() => return self.close().await,
                moved = self.ports.durable.changed(), if self.durable_open => {
                    self.durable_open = moved.is_ok();
                    self.durable_moved();
                }
                () = sleep_until(self.link.schedule.due_at()) => self.link.feed_back().await?,
                room = self.chunk.hand_out(&self.ports.output), if self.output_open => {
                    self.output_open = room;
                    if let Some(since) = self.held_since.take() {
                        self.link.seen.held += since.elapsed();
                        self.heard_at = Instant::now(); // deaf until now
                    }
                }
                read = self.link.stream.fill(), if reading => {
                    read?;
                    self.heard();
                }
                () = sleep_until(self.heard_at + patience), if reading => {
                    return Err(StreamError::Silent(patience));
                }
            }
        }
    }

    /// Takes the messages that have arrived whole, while there is room.
    async fn take_buffered(&mut self) -> Result<(), StreamError> {
        while self.output_open && !self.chunk.is_full(&self.settings) {
            let Some(bytes) = self.link.stream.buffered()? else { break };
            self.copy_data(&bytes).await?;
        }
        Ok(())
    }

    async fn copy_data(&mut self, bytes: &Bytes) -> Result<(), StreamError> {
        const XLOG_DATA: u8 = b'w';
        const KEEPALIVE: u8 = b'k';
        let decode = |error| StreamError::Transaction(TransactionError::Decode(error));
        let mut reader = Reader::new(bytes);
        match reader.u8().map_err(decode)? {
            XLOG_DATA => {
                let start = reader.u64().map_err(decode)?;
                let end = reader.u64().map_err(decode)?;
                reader.i64().map_err(decode)?; // the server's clock
                self.received(Lsn(start.max(end)));
                self.message(reader.rest()).await
            }
            KEEPALIVE => {
                let wal_end = Lsn(reader.u64().map_err(decode)?);
                reader.i64().map_err(decode)?;
                if reader.u8().map_err(decode)? == 1 {
                    self.link.schedule.within(REPLY_WITHIN, Instant::now());
                }
                self.received(wal_end);
                self.link.seen.keepalives += 1;
                self.ports.stats.server_wal_end.store(wal_end.0, Ordering::Relaxed);
                if !self.assembler.is_open() {
                    self.idle(wal_end);
                }
                Ok(())
            }
            tag => Err(decode(pgoutput::DecodeError::UnknownTag(tag))),
        }
    }

    async fn message(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.link.seen.bytes += bytes.len() as u64;
        let message = pgoutput::decode(bytes).map_err(TransactionError::Decode)?;
        if let Message::Relation(relation) = &message {
            self.learn(relation).await?;
        }
        let before = self.chunk.items.len();
        let step = self.assembler.apply(&message, &self.kinds, &mut self.chunk.items)?;
        let new = self.chunk.items.get(before..).unwrap_or_default();
        self.chunk.bytes += new.iter().map(Captured::size).sum::<usize>();
        match step {
            Step::Within => self.link.seen.captured(new.len()),
            Step::Committed(end) => {
                self.ports.stats.committed_lsn.store(end.0, Ordering::Release);
                self.link.seen.committed();
                self.received(end);
                self.emitted = self.emitted.max(end);
            }
            Step::Passed(end) => {
                self.received(end);
                self.idle(end);
            }
        }
        Ok(())
    }

    /// Nothing of ours below `wal_end` that was not handed out.
    fn idle(&mut self, wal_end: Lsn) {
        let advance = wal_end.0.saturating_sub(self.emitted.0);
        if advance > 0 && advance >= self.settings.idle_step {
            self.emitted = wal_end;
            self.chunk.items.push(Captured::Idle { wal_end });
        }
    }

    /// Looks up the relation's types before its rows come; feedback goes on meanwhile.
    async fn learn(&mut self, relation: &Relation<'_>) -> Result<(), StreamError> {
        if !self.assembler.is_configured(relation) {
            let table = format!("{}.{}", relation.schema, relation.name);
            if !self.skipped.contains(&table) {
                warn!(
                    event = "table_not_configured", %table,
                    "table is published but not configured, its changes are skipped"
                );
                self.skipped.insert(table);
            }
            return Ok(());
        }
        let types: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        // Asks the server only where a type is not built in.
        let mut loading = std::pin::pin!(self.kinds.load(&self.ports.catalog, &types));
        loop {
            tokio::select! {
                loaded = &mut loading => {
                    return loaded.map_err(|error| StreamError::Kinds(error::sentence(&error)));
                }
                () = sleep_until(self.link.schedule.due_at()) => self.link.feed_back().await?,
            }
        }
    }

    fn received(&mut self, lsn: Lsn) {
        self.link.progress.receive(lsn);
        let received = self.link.progress.received();
        // After what was committed below it, for those who read the two.
        self.ports.stats.received_lsn.store(received.0, Ordering::Release);
    }

    fn heard(&mut self) {
        self.heard_at = Instant::now();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.ports.stats.last_message_at.store(milliseconds, Ordering::Relaxed);
    }

    fn durable_moved(&mut self) {
        let durable = *self.ports.durable.borrow_and_update();
        if durable > self.link.progress.durable() {
            self.link.progress.advance_durable(durable);
            self.link.schedule.within(ACKNOWLEDGE_WITHIN, Instant::now());
        }
    }

    /// A last acknowledgement, then CopyDone. A server that does not answer in time changes
    /// nothing: what it misses, it sends again.
    async fn close(mut self) -> Result<(), StreamError> {
        self.durable_moved();
        let mut link = self.link;
        link.seen.tell(&link.metrics);
        let closing = async {
            let (received, durable) = (link.progress.received(), link.progress.durable());
            let mut stream = link.stream;
            stream.send_status(received, durable, false).await?;
            stream.close().await?;
            Ok::<Lsn, ReplicationError>(durable)
        };
        match timeout(CLOSE_WITHIN, closing).await {
            Ok(Ok(durable)) => {
                self.ports.stats.acknowledged_lsn.store(durable.0, Ordering::Relaxed);
            }
            Ok(Err(error)) => debug!(%error, "replication connection did not close in good order"),
            Err(_) => debug!("replication connection did not close in time"),
        }
        Ok(())
    }
}
