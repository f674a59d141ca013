//! Executes a plan: reads the rows that it needs, builds the documents, sends the actions.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use foldhash::HashMap;
use smallvec::SmallVec;

use super::cache::RowCache;
use super::plan::{Content, DocumentPlan, DocumentStep};
use super::read::{KeyedRow, ReadError, ReadTransaction};
use super::{BatchOutput, Escaping, Renderer};
use crate::ack::batch::JobAck;
use crate::change::{Lsn, Row, TableId};
use crate::engine::document::definition::{Definition, SourceId};
use crate::engine::document::id::DocumentId;
use crate::engine::document::route;
use crate::engine::document::route::RequiredRow;
use crate::engine::document::{build, plain};
use crate::engine::feed::action::Action;
use crate::engine::feed::{FeedError, JobChange};
use crate::storage::queue::record_id::document_id;

/// A larger document keeps the buffer that it was built in, instead of a copy.
const COPIED_BYTES_MAX: usize = 1 << 20;

/// Rows asked for in one statement.
const KEYS_MAX: usize = 500;

/// The keys of rows to read, by table; each key is its parts.
type WantedKeys = BTreeMap<TableId, BTreeSet<Vec<String>>>;

/// Rows read for a plan, by table and key text.
type ReadRows = HashMap<TableId, HashMap<String, Row>>;

impl Renderer {
    /// Sends every step of the plan.
    pub(super) async fn execute(
        &mut self,
        output: BatchOutput<'_>,
        changes: &[JobChange],
        plan: DocumentPlan,
    ) -> Result<(), FeedError> {
        let needs = self.needs_of_images(changes, &plan);
        let wanted = wanted_keys(&plan);
        let mut rows = ReadRows::default();
        if !wanted.is_empty() || !needs.is_empty() {
            let snapshot_lsn = self.read_for_plan(wanted, needs, &mut rows).await?;
            let reads = plan.steps().iter().filter(|s| matches!(s.content, Content::Read(_)));
            let documents: Vec<DocumentId> = reads.map(|s| s.document.clone()).collect();
            self.rendered_by_read(&documents, snapshot_lsn).await?;
        }
        for step in plan.into_steps() {
            self.send_step(output, changes, &rows, step).await?;
        }
        Ok(())
    }

    /// Rows that documents built from images embed, and that are not cached.
    fn needs_of_images(&self, changes: &[JobChange], plan: &DocumentPlan) -> Vec<RequiredRow> {
        let mut needs = Vec::new();
        for step in plan.steps() {
            if let Content::Image(number) = step.content
                && let Some(row) = &changes[number].change.new
            {
                route::needs(&self.definition, step.source, row, &mut needs);
            }
        }
        missing(&self.definition, &self.cache, &needs)
    }

    /// Reads in one snapshot; returns its LSN.
    async fn read_for_plan(
        &mut self,
        wanted: WantedKeys,
        mut needs: Vec<RequiredRow>,
        rows: &mut ReadRows,
    ) -> Result<Lsn, FeedError> {
        let mut reads = self.reader.begin().await?;
        for (table, keys) in wanted {
            let keys: Vec<Vec<String>> = keys.into_iter().collect();
            for chunk in keys.chunks(KEYS_MAX) {
                for KeyedRow { key, row } in reads.by_key(table, chunk).await? {
                    needs_of_row(&self.definition, table, &row, &mut needs);
                    rows.entry(table).or_default().insert(key, row);
                }
            }
        }
        embed(&mut reads, &self.definition, &mut self.cache, &needs).await?;
        let snapshot_lsn = reads.snapshot_lsn();
        reads.commit().await?;
        Ok(snapshot_lsn)
    }

    async fn send_step(
        &mut self,
        output: BatchOutput<'_>,
        changes: &[JobChange],
        rows: &ReadRows,
        step: DocumentStep,
    ) -> Result<(), FeedError> {
        let row = match &step.content {
            Content::Image(number) => changes[*number].change.new.as_ref(),
            Content::Gone => None,
            Content::Read(parts) => {
                let key = document_id(parts);
                let found = rows.get(&step.table).and_then(|rows| rows.get(&key));
                found.filter(|row| build::included(self.definition.source(step.source), row))
            }
        };
        let mut action = Action::new(step.document, None, step.version, step.jobs);
        action.unchanged = step.unchanged;
        if let Some(row) = row {
            self.fill(&mut action, step.source, row, output.escaping);
        }
        Ok(output.emitter.send(action).await?)
    }

    /// Gives an action the document of a row; the rows that it embeds come from the cache. A row that
    /// is too large has none.
    fn fill(&mut self, action: &mut Action, source: SourceId, row: &Row, escaping: Escaping) {
        if let Some(cut) = row.cut() {
            action.refuse(format!(
                "the row has {} bytes, more than limits.row_bytes_max ({}): make the row smaller, or raise the \
                 limit and retry the job",
                cut.row_bytes, self.reader.row_bytes_max
            ));
            return;
        }
        let json = &mut self.scratch;
        json.clear();
        json.reserve(row.json().len() + 512);
        self.builder.build(&self.definition, source, row, &self.cache, json);
        let escaped = match escaping {
            Escaping::Plain => None,
            Escaping::ForParser => plain::readable(json),
        };
        action.body = Some(match escaped {
            Some(escaped) => Bytes::from(escaped),
            None if json.len() <= COPIED_BYTES_MAX => Bytes::copy_from_slice(json),
            None => Bytes::from(std::mem::take(json)),
        });
    }

    /// Sends one document of a row that was just read.
    pub(super) async fn send_row(
        &mut self,
        output: BatchOutput<'_>,
        source: SourceId,
        found: &KeyedRow,
        version: u64,
        jobs: SmallVec<[JobAck; 1]>,
    ) -> Result<(), FeedError> {
        let document = self.definition.document(source, &found.key);
        let mut action = Action::new(document, None, version, jobs);
        self.fill(&mut action, source, &found.row, output.escaping);
        Ok(output.emitter.send(action).await?)
    }
}

fn wanted_keys(plan: &DocumentPlan) -> WantedKeys {
    let mut wanted = WantedKeys::new();
    for step in plan.steps() {
        if let Content::Read(parts) = &step.content {
            wanted.entry(step.table).or_default().insert(parts.clone());
        }
    }
    wanted
}

/// Adds the rows that the documents of a row embed.
pub(super) fn needs_of_row(
    definition: &Definition,
    table: TableId,
    row: &Row,
    needs: &mut Vec<RequiredRow>,
) {
    for source in definition.sources_of(table) {
        if build::included(definition.source(source), row) {
            route::needs(definition, source, row, needs);
        }
    }
}

/// The needed rows that the cache does not know, parents along a path included.
fn missing(definition: &Definition, cache: &RowCache, needs: &[RequiredRow]) -> Vec<RequiredRow> {
    let mut missing = Vec::new();
    for need in needs {
        if let Some(unknown) =
            route::first_unknown(definition, cache, need, |table, key| cache.knows(table, key))
        {
            missing.push(unknown);
        }
    }
    missing.sort();
    missing.dedup();
    missing
}

/// Reads the needed rows into the cache, parent by parent where a path asks for them.
pub(super) async fn embed(
    reads: &mut ReadTransaction<'_>,
    definition: &Definition,
    cache: &mut RowCache,
    needs: &[RequiredRow],
) -> Result<(), ReadError> {
    loop {
        let unknown = missing(definition, cache, needs);
        if unknown.is_empty() {
            return Ok(());
        }
        let mut wanted = WantedKeys::new();
        for need in unknown {
            wanted.entry(need.table).or_default().insert(vec![need.key]);
        }
        for (table, keys) in wanted {
            let keys: Vec<Vec<String>> = keys.into_iter().collect();
            for chunk in keys.chunks(KEYS_MAX) {
                let snapshot_lsn = reads.snapshot_lsn();
                for KeyedRow { key, row } in reads.by_key(table, chunk).await? {
                    cache.insert(table, key, Some(row), snapshot_lsn);
                }
                for key in chunk.iter().flatten() {
                    if !cache.knows(table, key) {
                        cache.insert(table, key.clone(), None, snapshot_lsn);
                    }
                }
            }
        }
    }
}
