//! Rewrites the documents that show a changed row.
//!
//! A category is shown by its listings, and by those of every category below it; a profile by its
//! listings. The rows that show a changed row are read as they are now and sent under the
//! version of the change that caused it. A few of them are sent before any later change is
//! rendered. Many are left to the background, chunk by chunk between later changes: every action
//! that follows the cause shows it, and what was sent later has a higher version.
//!
//! Not here: which chunk is next (`feed::source::background`).

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::execute::embed;
use super::query::Referring;
use super::read::KeyedRow;
use super::rewrite::{CauseGroup, FanoutCause, RowsToRewrite};
use super::{BatchOutput, Renderer};
use crate::change::TableId;
use crate::engine::document::build;
use crate::engine::document::definition::{Dependent, SourceId};
use crate::engine::document::id::DocumentId;
use crate::engine::document::route;
use crate::engine::feed::FeedError;

/// Changes for which a fan-out may read one more chunk before it is left to the background: many
/// changed rows that few rows show are rewritten at once.
const CAUSES_PER_CHUNK: usize = 100;
/// Chunks of a fan-out that is not left to the background.
const CHUNKS_MAX: usize = 8;

/// The values that dependent rows refer to, each with the changes of the row that has it.
type Causes = HashMap<String, Vec<FanoutCause>>;

/// The values that dependent rows refer to, each with the rows whose changes rewrite them.
type CauseGroups = HashMap<String, SmallVec<[u32; 1]>>;

/// Changes of one table whose dependents are rewritten together.
#[derive(Debug)]
struct Fanout {
    changed: TableId,
    dependent: Dependent,
    causes: Causes,
}

/// Fan-outs of one batch, grouped by the dependent rows and their reference.
#[derive(Debug, Default)]
pub(super) struct Fanouts(Vec<Fanout>);

impl Fanouts {
    /// Adds a change of a row that `dependent` rows show by this key.
    pub(super) fn add(
        &mut self,
        changed: TableId,
        dependent: &Dependent,
        key: String,
        cause: FanoutCause,
    ) {
        let same = |group: &Fanout| group.changed == changed && group.dependent == *dependent;
        let index = self.0.iter().position(same).unwrap_or_else(|| {
            let dependent = dependent.clone();
            self.0.push(Fanout { changed, dependent, causes: Causes::default() });
            self.0.len() - 1
        });
        self.0[index].causes.entry(key).or_default().push(cause);
    }
}

impl Renderer {
    /// Rewrites all dependents of a batch, or leaves them to the background.
    pub(super) async fn fan_out(
        &mut self,
        output: BatchOutput<'_>,
        fanouts: Fanouts,
    ) -> Result<(), FeedError> {
        for Fanout { changed, dependent, causes } in fanouts.0 {
            let cause_count = causes.values().map(Vec::len).sum();
            let mut groups = Vec::new();
            let mut values = CauseGroups::default();
            for (number, (key, list)) in (0..).zip(causes) {
                groups.push(CauseGroup::of(&list));
                values.insert(key, smallvec![number]);
            }
            if dependent.path {
                values = self.below(changed, &dependent, values).await?;
            }
            if !values.is_empty() {
                let rows = RowsToRewrite { changed, dependent, values: Some(values), groups };
                self.rewrite(output, &rows, cause_count).await?;
            }
        }
        Ok(())
    }

    /// Spreads the groups of each key to all keys below it along the table's parent column.
    async fn below(
        &mut self,
        changed: TableId,
        dependent: &Dependent,
        groups: CauseGroups,
    ) -> Result<CauseGroups, FeedError> {
        let Some(parent) = self.definition.tree(changed).map(|tree| tree.parent.clone()) else {
            return Ok(groups);
        };
        let own_key = self.shapes.of(changed).key.first();
        let by_own_key =
            dependent.table == changed && own_key.is_some_and(|key| key.name == dependent.by);
        let mut spread = CauseGroups::default();
        let mut reads = self.reader.begin().await?;
        for (key, list) in groups {
            for below in reads.descendants(changed, &parent, std::slice::from_ref(&key)).await? {
                // The row itself has its own step in the plan.
                if by_own_key && below == key {
                    continue;
                }
                spread.entry(below).or_default().extend(list.iter().copied());
            }
        }
        reads.commit().await?;
        Ok(spread)
    }

    /// Rewrites every row that shows any row of a truncated table, or leaves them to the background.
    pub(super) async fn rewrite_all(
        &mut self,
        output: BatchOutput<'_>,
        truncated: TableId,
        cause: FanoutCause,
    ) -> Result<(), FeedError> {
        let definition = Arc::clone(&self.definition);
        for dependent in definition.dependents_of(truncated) {
            let rows = RowsToRewrite {
                changed: truncated,
                dependent: dependent.clone(),
                values: None,
                groups: vec![CauseGroup::of(&[cause])],
            };
            self.rewrite(output, &rows, 1).await?;
        }
        Ok(())
    }

    /// Rewrites the rows if they are few; else leaves them to the background.
    async fn rewrite(
        &mut self,
        output: BatchOutput<'_>,
        rows: &RowsToRewrite,
        cause_count: usize,
    ) -> Result<(), FeedError> {
        let mut chunk = self.rows_to_rewrite(rows, None).await?;
        if self.is_last_chunk(&chunk) {
            return self.rewrite_chunk(output, rows, &chunk).await;
        }
        let chunks_max = (1 + cause_count / CAUSES_PER_CHUNK).min(CHUNKS_MAX);
        if chunks_max == 1 || self.are_more(rows, chunks_max).await? {
            output.pending.begin_fanout(rows.begun(&self.shapes));
            return Ok(());
        }
        loop {
            self.rewrite_chunk(output, rows, &chunk).await?;
            let Some(last) = chunk.last().filter(|_| !self.is_last_chunk(&chunk)) else {
                return Ok(());
            };
            let after = self.shapes.of(rows.dependent.table).key_parts(&last.row);
            chunk = self.rows_to_rewrite(rows, Some(&after)).await?;
        }
    }

    /// Whether the rows are more than this many chunks.
    async fn are_more(&mut self, rows: &RowsToRewrite, chunks: usize) -> Result<bool, FeedError> {
        let Some(values) = rows.value_list() else { return Ok(true) };
        let most = self.chunk_rows * i64::try_from(chunks).unwrap_or(i64::MAX);
        let referring = Referring { column: &rows.dependent.by, values: &values };
        let mut reads = self.reader.begin().await?;
        let count = reads.count_referring(rows.dependent.table, referring, most + 1).await?;
        reads.commit().await?;
        Ok(count > most)
    }

    /// Whether no row follows those of this chunk.
    pub(in crate::engine::feed) fn is_last_chunk(&self, chunk: &[KeyedRow]) -> bool {
        i64::try_from(chunk.len()).unwrap_or(i64::MAX) < self.chunk_rows
    }

    /// Sends the documents of a chunk.
    pub(in crate::engine::feed) async fn rewrite_chunk(
        &mut self,
        output: BatchOutput<'_>,
        rows: &RowsToRewrite,
        chunk: &[KeyedRow],
    ) -> Result<(), FeedError> {
        for found in chunk {
            let causes = rows.causes_of(&found.row);
            if causes.is_empty() {
                continue;
            }
            for source in &rows.dependent.sources {
                self.rewrite_one(output, *source, found, &causes).await?;
            }
        }
        Ok(())
    }

    /// The next rows to rewrite. The rows that their documents embed are cached, and the documents
    /// count as read ahead.
    pub(in crate::engine::feed) async fn rows_to_rewrite(
        &mut self,
        rows: &RowsToRewrite,
        after: Option<&[String]>,
    ) -> Result<Vec<KeyedRow>, FeedError> {
        self.cache.trim();
        let dependent = &rows.dependent;
        let mut reads = self.reader.begin().await?;
        let snapshot_lsn = reads.snapshot_lsn();
        let table = dependent.table;
        let found = match rows.value_list() {
            Some(values) => {
                let referring = Referring { column: &dependent.by, values: &values };
                reads.referring(table, referring, after, self.chunk_rows).await?
            }
            None => reads.after(table, after, self.chunk_rows).await?,
        };
        let mut needs = Vec::new();
        for row in &found {
            for source in &dependent.sources {
                route::needs(&self.definition, *source, &row.row, &mut needs);
            }
        }
        embed(&mut reads, &self.definition, &mut self.cache, &needs).await?;
        reads.commit().await?;
        let documents: Vec<DocumentId> = found
            .iter()
            .flat_map(|row| dependent.sources.iter().map(move |source| (*source, row)))
            .map(|(source, row)| self.definition.document(source, &row.key))
            .collect();
        self.rendered_by_read(&documents, snapshot_lsn).await?;
        Ok(found)
    }

    async fn rewrite_one(
        &mut self,
        output: BatchOutput<'_>,
        source: SourceId,
        found: &KeyedRow,
        causes: &[&CauseGroup],
    ) -> Result<(), FeedError> {
        if !build::included(self.definition.source(source), &found.row) {
            return Ok(());
        }
        let jobs: SmallVec<_> =
            causes.iter().map(|group| output.pending.group_reference(&group.jobs)).collect();
        let highest = causes.iter().map(|group| group.highest).max().unwrap_or_default();
        match self.version(source, highest) {
            Some(version) => self.send_row(output, source, found, version, jobs).await,
            None => Ok(output.emitter.done(jobs).await?),
        }
    }
}
