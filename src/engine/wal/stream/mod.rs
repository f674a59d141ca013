//! The loop of the stream: receives messages, emits [`Captured`] items and sends feedback.
//!
//! One task owns the socket. It reads only while the channel behind it has capacity, and sends
//! feedback on a timer even while it does not, so that a blocked stage never loses the connection.
//!
//! `received` is the position up to which the server has sent, `durable` the one that may be
//! acknowledged. `durable` never exceeds `received`, and neither moves backward.
//!
//! Not here: the durable position (`checkpoint`), and reconnecting (`engine::run`).

mod chunk;
mod describe;
mod feedback_connection;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::chunk::Chunk;
pub use self::chunk::StreamSettings;
use self::feedback_connection::FeedbackConnection;
use super::error::TransactionError;
use crate::ack::memory::{Memory, MemoryPart};
use crate::change::Lsn;
use crate::engine::control::Control;
use crate::engine::wal::connection::ReplicationStream;
use crate::engine::wal::error::StreamError;
use crate::engine::wal::feedback::{StatusTimer, StreamProgress};
use crate::engine::wal::pgoutput;
use crate::engine::wal::pgoutput::{ByteReader, Message};
use crate::engine::wal::relation::Tables;
use crate::engine::wal::silence::Silence;
use crate::engine::wal::stats::StreamStats;
use crate::engine::wal::transaction::{MessageEffect, TransactionDecoder};
use crate::engine::wal::{Captured, CapturedChunk};
use crate::postgres::catalog::sender;
use crate::postgres::error;
use crate::telemetry::metrics;
use crate::telemetry::waits::{WaitGuard, WaitName, Waits};
use crate::value::TypeCache;

/// The longest delay of a requested reply, within which further requests need no reply of their own.
const REPLY_WITHIN: Duration = Duration::from_millis(100);
/// The longest delay between an advance of the durable LSN and its acknowledgement.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_millis(50);
/// After this silence the state of the server's walsender is read, also with a longer `wal_sender_timeout`.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The time limit for reading it, which takes a second session.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The channels and shared values of the loop.
#[derive(Debug)]
pub struct Ports {
    /// The session that queries types that are not built in.
    pub catalog: Arc<tokio_postgres::Client>,
    /// The session that reads what the WAL sender does.
    pub watch: Arc<tokio_postgres::Client>,
    /// The position that may be acknowledged; at most that of the items emitted, or the start.
    pub durable: watch::Receiver<Lsn>,
    /// The supervisor's decision.
    pub control: watch::Receiver<Control>,
    /// Chunks, in order. After its receiver is dropped nothing more is read, but feedback continues
    /// until `shutdown`, so that changes in flight can settle and be acknowledged.
    pub output: mpsc::Sender<CapturedChunk>,
    pub shutdown: CancellationToken,
    pub stats: Arc<StreamStats>,
    pub metrics: metrics::SourceMetrics,
    pub waits: Waits,
    pub memory: Memory,
}

/// Streams until shutdown, which closes the connection properly.
///
/// # Errors
/// [`StreamError`], after a failure of the connection, the server or the stream's content.
pub async fn run(
    stream: ReplicationStream,
    tables: Tables,
    settings: StreamSettings,
    ports: Ports,
) -> Result<(), StreamError> {
    let now = Instant::now();
    let start = stream.start_lsn();
    let silence = Silence::new(stream.sender_timeout().min(SILENCE_MAX), now);
    let period = Duration::from_secs(1).min(stream.sender_timeout() / 3);
    let mut connection = FeedbackConnection {
        stream,
        progress: StreamProgress::new(start),
        timer: StatusTimer::new(period, now),
        stats: Arc::clone(&ports.stats),
        metrics: ports.metrics.clone(),
        received: ports.metrics.receiver(),
    };
    connection.progress.advance_durable(*ports.durable.borrow());
    let metrics = ports.metrics.clone();
    let memory = ports.memory.clone();
    let reader = StreamLoop {
        connection,
        settings,
        ports,
        decoder: TransactionDecoder::new(tables, settings.row_bytes_max),
        types: TypeCache::new(),
        chunk: Chunk::new(memory),
        emitted: start,
        silence,
        blocked: None,
        durable_open: true,
        output_open: true,
        skipped: HashSet::new(),
    };
    reader.run().await.inspect_err(|error| metrics.failed(error.failure()))
}

/// Waits until more may be read.
async fn memory_room(memory: &Memory, waits: &Waits) {
    waits.during(WaitName::MemoryRoom, memory.room(MemoryPart::Stream)).await;
}

/// Reading is blocked.
struct Blocked {
    since: Instant,
    _wait: WaitGuard,
}

struct StreamLoop {
    connection: FeedbackConnection,
    settings: StreamSettings,
    ports: Ports,
    decoder: TransactionDecoder,
    types: TypeCache,
    chunk: Chunk,
    /// The last position emitted: the end of a commit, or an idle mark.
    emitted: Lsn,
    silence: Silence,
    durable_open: bool,
    output_open: bool,
    /// Reading is blocked because the channel is full.
    blocked: Option<Blocked>,
    /// Published tables that are not configured, for one warning each.
    skipped: HashSet<String>,
}

impl StreamLoop {
    async fn run(mut self) -> Result<(), StreamError> {
        loop {
            self.decode_buffered().await?;
            let wants_more = self.output_open && !self.chunk.is_full(&self.settings);
            let reading = wants_more && self.ports.memory.has_room(MemoryPart::Stream);
            if !wants_more && self.output_open {
                self.blocked.get_or_insert_with(|| Blocked {
                    since: Instant::now(),
                    _wait: self.ports.waits.begin(WaitName::RecorderRoom),
                });
            }
            tokio::select! {
                biased; // stop, acknowledge, send on, and only then receive
                () = self.ports.shutdown.cancelled() => return self.close().await,
                moved = self.ports.durable.changed(), if self.durable_open => {
                    self.durable_open = moved.is_ok();
                    self.durable_moved();
                }
                () = sleep_until(self.connection.timer.due_at()) => {
                    self.connection.send_feedback().await?;
                }
                sent = self.chunk.send(&self.ports.output), if self.output_open => {
                    self.output_open = sent;
                    if let Some(blocked) = self.blocked.take() {
                        self.connection.received.held += blocked.since.elapsed();
                        self.silence.ended(Instant::now()); // nothing was read until now
                    }
                }
                () = memory_room(&self.ports.memory, &self.ports.waits), if wants_more && !reading => {
                    self.silence.ended(Instant::now());
                }
                read = self.connection.stream.fill(), if reading => {
                    read?;
                    self.record_message();
                }
                () = sleep_until(self.silence.due_at()), if reading => {
                    self.verify_sender().await?;
                }
            }
        }
    }

    /// Decodes the messages that are complete in the buffer, until the chunk is full.
    async fn decode_buffered(&mut self) -> Result<(), StreamError> {
        while self.output_open
            && !self.chunk.is_full(&self.settings)
            && self.ports.memory.has_room(MemoryPart::Stream)
        {
            let Some(bytes) = self.connection.stream.buffered()? else { break };
            self.copy_data(&bytes).await?;
        }
        Ok(())
    }

    async fn copy_data(&mut self, bytes: &Bytes) -> Result<(), StreamError> {
        const XLOG_DATA: u8 = b'w';
        const KEEPALIVE: u8 = b'k';
        let decode = |error| StreamError::Transaction(TransactionError::Decode(error));
        let mut reader = ByteReader::new(bytes);
        match reader.u8().map_err(decode)? {
            XLOG_DATA => {
                let start = reader.u64().map_err(decode)?;
                let end = reader.u64().map_err(decode)?;
                reader.i64().map_err(decode)?; // the server's clock
                self.received(Lsn(start.max(end)));
                self.pgoutput_message(reader.rest()).await
            }
            KEEPALIVE => {
                let wal_end = Lsn(reader.u64().map_err(decode)?);
                reader.i64().map_err(decode)?;
                if reader.u8().map_err(decode)? == 1 {
                    self.connection.timer.within(REPLY_WITHIN, Instant::now());
                }
                self.received(wal_end);
                self.connection.received.keepalives += 1;
                self.ports.stats.server_wal_end.store(wal_end.0, Ordering::Relaxed);
                if !self.decoder.is_open() {
                    self.idle(wal_end);
                }
                Ok(())
            }
            tag => Err(decode(pgoutput::DecodeError::UnknownTag(tag))),
        }
    }

    async fn pgoutput_message(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.connection.received.bytes += bytes.len() as u64;
        let message = pgoutput::decode(bytes).map_err(TransactionError::Decode)?;
        if let Message::Relation(relation) = &message {
            self.describe(relation).await?;
        }
        let before = self.chunk.items.len();
        let effect = self.decoder.apply(&message, &self.types, &mut self.chunk.items)?;
        let new = self.chunk.items.get(before..).unwrap_or_default();
        let new_count = new.len();
        let bytes = new.iter().map(Captured::size).sum();
        self.chunk.note_added(bytes);
        match effect {
            MessageEffect::None => self.connection.received.captured(new_count),
            MessageEffect::Committed(end) => {
                self.ports.stats.committed_lsn.store(end.0, Ordering::Release);
                self.connection.received.committed();
                self.received(end);
                self.emitted = self.emitted.max(end);
            }
            MessageEffect::Skipped(end) => {
                self.received(end);
                self.idle(end);
            }
        }
        Ok(())
    }

    /// Emits an idle mark if the WAL has advanced far enough: every change of a configured table
    /// below `wal_end` has been emitted.
    fn idle(&mut self, wal_end: Lsn) {
        let advance = wal_end.0.saturating_sub(self.emitted.0);
        let at = self.ports.control.borrow().acknowledge_at;
        if advance > 0 && advance >= self.settings.idle_step_at(at) {
            self.emitted = wal_end;
            self.chunk.items.push(Captured::Idle { wal_end });
        }
    }

    /// Reads what the WAL sender does, on another session; feedback continues meanwhile.
    async fn verify_sender(&mut self) -> Result<(), StreamError> {
        let stream = &self.connection.stream;
        let pid = stream.sender_pid();
        let patience = ANSWER_MAX.min(stream.sender_timeout());
        let asking = timeout(patience, sender::inspect(&self.ports.watch, pid));
        let found = self.connection.during(asking).await?;
        let now = Instant::now();
        let length = self.silence.length(now);
        // Without an answer here too, the server is out of reach.
        let activity = found.map_err(|_| StreamError::Silent(length))?;
        let activity = activity.map_err(|error| StreamError::Sender(error::sentence(&error)))?;
        if self.silence.is_fatal(activity, now) {
            return Err(StreamError::Silent(length));
        }
        debug!(?activity, ?length, "the WAL sender is silent");
        Ok(())
    }

    fn received(&mut self, lsn: Lsn) {
        self.connection.progress.receive(lsn);
        let received = self.connection.progress.received();
        // Stored after the end of the last commit, so that readers of both see a consistent pair.
        self.ports.stats.received_lsn.store(received.0, Ordering::Release);
    }

    fn record_message(&mut self) {
        self.silence.ended(Instant::now());
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.ports.stats.last_message_at.store(milliseconds, Ordering::Relaxed);
    }

    fn durable_moved(&mut self) {
        let durable = *self.ports.durable.borrow_and_update();
        if durable > self.connection.progress.durable() {
            self.connection.progress.advance_durable(durable);
            self.connection.timer.within(ACKNOWLEDGE_WITHIN, Instant::now());
        }
    }

    /// Ends the connection after a last acknowledgement.
    async fn close(mut self) -> Result<(), StreamError> {
        self.durable_moved();
        self.connection.close().await;
        Ok(())
    }
}
