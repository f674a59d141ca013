//! The first load: rows that were there before the slot.
//!
//! W is the server's insert LSN at a moment after the slot came to be. Once every transaction
//! that ran at W has ended, each later snapshot shows all that committed before W, and all that
//! commits after W is on the stream under a higher version. So chunks are read in the order of
//! the key with plain snapshots, under the version just below W, and a chunk may be read again.

use smallvec::smallvec;

use crate::ack::batch::{Commits, CreatedBetween, JobKey, LoadedChunk};
use crate::ack::job_set::JobSet;
use crate::change::{Lsn, TableId};
use crate::engine::document::build;
use crate::engine::document::id::version_below;
use crate::engine::document::route;
use crate::engine::feed::emit::NewTicket;
use crate::engine::feed::render::read::ReadError;
use crate::engine::feed::render::render::embed;
use crate::engine::feed::{Feed, FeedError};
use crate::storage::load_progress::LoadProgress;
use crate::telemetry::trace;

/// Rows of one chunk.
const ROWS_MAX: i64 = 500;
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

impl Feed {
    /// Loads every table whose load is not finished.
    pub(in crate::engine::feed) async fn load_all(&mut self) -> Result<(), FeedError> {
        let unfinished: Vec<(TableId, LoadProgress)> = std::mem::take(&mut self.loads);
        for (table, progress) in unfinished {
            let label = self.shapes.of(table).label();
            tracing::info!(
                event = "load_begun",
                table = label,
                rows = progress.row_count,
                "loading"
            );
            let Some(low) = self.settled_moment().await? else { return Ok(()) };
            self.load(table, low, progress).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            tracing::info!(event = "load_done", table = label, "loaded");
        }
        Ok(())
    }

    /// W, after everything that ran at W has ended; `None` when told to stop.
    async fn settled_moment(&mut self) -> Result<Option<Lsn>, FeedError> {
        let view = self.reader.view().await?;
        let low = view.horizon();
        view.close().await?;
        // A transaction whose commit record lies below W had its xid before this one. A snapshot's
        // xmax would not do: it is one past the newest *ended* transaction.
        let sql = "select pg_catalog.pg_current_xact_id()::text";
        let row = self.control.query_one(sql, &[]).await.map_err(ReadError::Open)?;
        let text: String = row.get(0);
        let mark: u64 = text.parse().map_err(|_| ReadError::Unreadable(text))?;
        let mut waited = false;
        while !self.stop.is_cancelled() {
            let view = self.reader.view().await?;
            let ended = view.snapshot().xmin() > mark;
            view.close().await?;
            if ended {
                return Ok(Some(low));
            }
            if !waited {
                tracing::info!(event = "load_waits", %low, "the load waits for transactions that began before it");
                waited = true;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(None)
    }

    async fn load(
        &mut self,
        table: TableId,
        low: Lsn,
        progress: LoadProgress,
    ) -> Result<(), FeedError> {
        let mut row_count = progress.row_count;
        let mut after: Option<Vec<String>> =
            progress.last_key.as_deref().and_then(|key| serde_json::from_str(key).ok());
        loop {
            if !self.may_go_on().await {
                return Ok(());
            }
            self.cache.clear();
            let mut view = self.reader.view().await?;
            let horizon = view.horizon();
            let found = view.after(table, after.as_deref(), ROWS_MAX).await?;
            let sources = self.definition.sources_of(table);
            let mut needs = Vec::new();
            for row in &found {
                for &source in &sources {
                    if build::included(self.definition.source(source), &row.row) {
                        route::needs(&self.definition, source, &row.row, &mut needs);
                    }
                }
            }
            embed(&mut view, &self.definition, &mut self.cache, &needs).await?;
            view.close().await?;
            self.store_horizon(horizon).await?;
            self.ahead.note_all(horizon);
            after = found.last().map(|f| self.shapes.of(table).key_parts(&f.row));
            row_count += found.len() as u64;
            let pending = self.emitter.open(NewTicket {
                extent: JobSet::None,
                created: CreatedBetween { min: 0, max: 0 },
                end_lsn: None,
                loaded: Some(LoadedChunk {
                    table: self.shapes.of(table).label(),
                    last_key: after.as_ref().and_then(|key| serde_json::to_string(key).ok()),
                    row_count,
                }),
                commits: Commits::default(),
                hold: None,
                batch: trace::batch("load", found.len()),
            });
            self.careful = true;
            for row in &found {
                for &source in &sources {
                    let base = self.base(source);
                    let Some(version) = version_below(low, base) else { continue };
                    if build::included(self.definition.source(source), &row.row) {
                        let jobs = smallvec![pending.reference(JobKey::Id(0))];
                        self.send_row(source, row, version, jobs).await?;
                    }
                }
            }
            self.careful = false;
            self.emitter.close(pending).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            if found.is_empty() {
                self.emitter.barrier().await;
                return Ok(());
            }
        }
    }
}
