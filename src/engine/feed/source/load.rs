//! The first load: rows that were there before the slot.
//!
//! W is the server's insert LSN at a moment after the slot was created. Once every transaction
//! that ran at W has ended, each later snapshot shows all that committed before W, and all that
//! commits after W is on the stream under a higher version. So chunks are read in the order of
//! the key with plain snapshots, under the version just below W, and a chunk may be read again.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use crate::ack::batch::{ChunkPurpose, LoadedChunk, LoadedRow};
use crate::change::{Lsn, TableId};
use crate::engine::document::shape::TableShape;
use crate::engine::feed::emit::NewBatch;
use crate::engine::feed::render::read::{KeyedRow, ReadError};
use crate::engine::feed::render::{BatchOutput, Escaping};
use crate::engine::feed::{FeedCore, FeedError};
use crate::storage::load_progress::LoadProgress;
use crate::telemetry::trace;
use crate::telemetry::waits::WaitName;

/// Between two queries for the end of the transactions that ran at W.
const QUERY_AGAIN: Duration = Duration::from_millis(20);

/// The tables that are still to be loaded.
pub struct FirstLoad {
    unfinished: Vec<(TableId, LoadProgress)>,
    session: Arc<Client>,
}

impl FirstLoad {
    /// `session` is for single queries.
    #[must_use]
    pub fn new(unfinished: Vec<(TableId, LoadProgress)>, session: Arc<Client>) -> Self {
        Self { unfinished, session }
    }

    /// Whether every table was loaded before.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.unfinished.is_empty()
    }

    /// Loads every table whose load is not finished. Returns early when the run stops.
    pub(in crate::engine::feed) async fn run(self, core: &mut FeedCore) -> Result<(), FeedError> {
        for (table, progress) in self.unfinished {
            let label = core.renderer.shapes().of(table).label();
            tracing::info!(
                event = "load_begun",
                table = label,
                rows = progress.row_count,
                "loading"
            );
            let Some(moment) = settled_moment(core, &self.session).await? else { return Ok(()) };
            load_table(core, table, moment, progress).await?;
            if core.control.is_stopped() {
                return Ok(());
            }
            tracing::info!(event = "load_done", table = label, "loaded");
        }
        Ok(())
    }
}

/// W, after everything that ran at W has ended; `None` when the run stops.
async fn settled_moment(core: &mut FeedCore, session: &Client) -> Result<Option<Lsn>, FeedError> {
    let _wait = core.emitter.waits().begin(WaitName::LoadBegin);
    let low = core.renderer.current_lsn().await?;
    // A transaction whose commit record lies below W drew its xid before this one. A snapshot's
    // xmax would not do: it is one past the newest *ended* transaction.
    let sql = "select pg_catalog.pg_current_xact_id()::text";
    let row = session.query_one(sql, &[]).await.map_err(ReadError::Open)?;
    let text: String = row.get(0);
    let xid: u64 = text.parse().map_err(|_| ReadError::Unreadable(text))?;
    let mut is_logged = false;
    while !core.control.is_stopped() {
        if core.renderer.all_ended_up_to(xid).await? {
            return Ok(Some(low));
        }
        if !is_logged {
            tracing::info!(event = "load_waits", %low, "the load waits for transactions that began before it");
            is_logged = true;
        }
        tokio::time::sleep(QUERY_AGAIN).await;
    }
    Ok(None)
}

async fn load_table(
    core: &mut FeedCore,
    table: TableId,
    moment: Lsn,
    progress: LoadProgress,
) -> Result<(), FeedError> {
    let mut row_count = progress.row_count;
    let mut after: Option<Vec<String>> =
        progress.last_key.as_deref().and_then(|key| serde_json::from_str(key).ok());
    while core.control.wait_to_begin().await {
        core.emitter.memory_room().await;
        let rows = core.renderer.read_chunk(table, after.as_deref()).await?;
        let shape = core.renderer.shapes().of(table);
        after = rows.last().map(|last| shape.key_parts(&last.row));
        row_count += rows.len() as u64;
        let loaded = LoadedChunk {
            table: shape.label(),
            last_key: after.as_ref().and_then(|key| serde_json::to_string(key).ok()),
            row_count,
            table_name: shape.name.clone(),
            rows: loaded_rows(shape, &rows),
            purpose: ChunkPurpose::Load,
            refused: Vec::new(),
            parked: Vec::new(),
        };
        let span = trace::batch("load", rows.len());
        let pending =
            core.emitter.open(NewBatch { loaded: Some(loaded), span, ..NewBatch::without_jobs() });
        let output = BatchOutput {
            emitter: &core.emitter,
            pending: &pending,
            escaping: Escaping::ForParser,
        };
        core.renderer.send_chunk(output, table, &rows, moment).await?;
        core.emitter.close(pending).await?;
        if core.control.is_stopped() {
            return Ok(());
        }
        if rows.is_empty() {
            core.emitter.barrier().await;
            return Ok(());
        }
    }
    Ok(())
}

/// The rows of a chunk as jobs name them: a refused one becomes a failed job.
fn loaded_rows(shape: &TableShape, rows: &[KeyedRow]) -> Arc<[LoadedRow]> {
    let key = shape.table_key();
    rows.iter()
        .map(|found| LoadedRow {
            record_id: key.record_id(&found.row).unwrap_or_default(),
            key: shape.key_object(&found.row).unwrap_or_else(|| "{}".to_owned()),
        })
        .collect()
}
