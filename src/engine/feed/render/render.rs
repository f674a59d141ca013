//! Carries out a plan: reads what must be read, builds the documents, sends the actions.

use std::collections::BTreeMap;

use bytes::Bytes;
use foldhash::HashMap;
use smallvec::SmallVec;

use super::cache::Cache;
use super::plan::{Content, Plan, Step};
use super::read::{Found, ReadError, View};
use crate::ack::batch::JobAck;
use crate::change::{Lsn, Row, TableId};
use crate::engine::document::definition::{Definition, SourceId};
use crate::engine::document::id::DocumentId;
use crate::engine::document::route;
use crate::engine::document::route::{RequiredRow, RowKeys as _};
use crate::engine::document::{build, plain};
use crate::engine::feed::{Feed, FeedError, Work};

/// Rows asked for in one statement.
pub(in crate::engine::feed) const KEYS_MAX: usize = 500;

/// Rows read for a plan, by table and key text.
type ReadRows = HashMap<TableId, HashMap<String, Row>>;

impl Feed {
    /// Sends every step of the plan.
    pub(in crate::engine::feed) async fn carry_out(
        &mut self,
        works: &[Work],
        plan: Plan,
    ) -> Result<(), FeedError> {
        let needs = self.needs_of_images(works, &plan);
        let wanted = wanted_keys(&plan);
        let mut rows = ReadRows::default();
        if !wanted.is_empty() || !needs.is_empty() {
            let horizon = self.read_for_plan(wanted, needs, &mut rows).await?;
            let reads = plan.steps().iter().filter(|s| matches!(s.content, Content::Read(_)));
            let read: Vec<DocumentId> = reads.map(|s| s.document.clone()).collect();
            self.rendered_by_read(&read, horizon).await?;
        }
        for step in plan.into_steps() {
            self.send_step(works, &rows, step).await?;
        }
        Ok(())
    }

    /// Notes, and stores before anything is sent, that these documents may be ahead of the stream.
    pub(in crate::engine::feed) async fn rendered_by_read(
        &mut self,
        documents: &[DocumentId],
        horizon: Lsn,
    ) -> Result<(), FeedError> {
        if documents.is_empty() {
            return Ok(());
        }
        self.store_horizon(horizon).await?;
        for document in documents {
            self.ahead.note(document, horizon);
        }
        Ok(())
    }

    fn needs_of_images(&self, works: &[Work], plan: &Plan) -> Vec<RequiredRow> {
        let mut needs = Vec::new();
        for step in plan.steps() {
            if let Content::Image(number) = step.content
                && let Some(row) = &works[number].change.new
            {
                route::needs(&self.definition, step.source, row, &mut needs);
            }
        }
        missing(&self.definition, &self.cache, &needs)
    }

    async fn read_for_plan(
        &mut self,
        wanted: BTreeMap<TableId, BTreeMap<Vec<String>, ()>>,
        mut needs: Vec<RequiredRow>,
        rows: &mut ReadRows,
    ) -> Result<Lsn, FeedError> {
        let mut view = self.reader.view().await?;
        for (table, keys) in wanted {
            let keys: Vec<Vec<String>> = keys.into_keys().collect();
            for chunk in keys.chunks(KEYS_MAX) {
                for Found { key, row } in view.by_key(table, chunk).await? {
                    for source in self.definition.sources_of(table) {
                        if build::included(self.definition.source(source), &row) {
                            route::needs(&self.definition, source, &row, &mut needs);
                        }
                    }
                    rows.entry(table).or_default().insert(key, row);
                }
            }
        }
        embed(&mut view, &self.definition, &mut self.cache, &needs).await?;
        let horizon = view.horizon();
        view.close().await?;
        Ok(horizon)
    }

    async fn send_step(
        &mut self,
        works: &[Work],
        rows: &ReadRows,
        step: Step,
    ) -> Result<(), FeedError> {
        let row = match &step.content {
            Content::Image(number) => works[*number].change.new.as_ref(),
            Content::Gone => None,
            Content::Read(parts) => {
                let key = self.shapes.text(parts);
                let found = rows.get(&step.table).and_then(|rows| rows.get(&key));
                found.filter(|row| build::included(self.definition.source(step.source), row))
            }
        };
        let body = row.map(|row| self.body(step.source, row));
        Ok(self.emitter.act(step.document, body, step.version, step.jobs).await?)
    }

    /// The document of a row, with the rows it embeds taken from the cache.
    pub(in crate::engine::feed) fn body(&mut self, source: SourceId, row: &Row) -> Bytes {
        let mut json = Vec::with_capacity(row.json().len() + 512);
        self.builder.build(&self.definition, source, row, &self.cache, &mut json);
        let readable = if self.careful { plain::readable(&json) } else { None };
        Bytes::from(readable.unwrap_or(json))
    }

    /// Sends one document that was rendered from a row just read.
    pub(in crate::engine::feed) async fn send_row(
        &mut self,
        source: SourceId,
        found: &Found,
        version: u64,
        jobs: SmallVec<[JobAck; 1]>,
    ) -> Result<(), FeedError> {
        let document = self.definition.document(source, &found.key);
        let body = self.body(source, &found.row);
        Ok(self.emitter.act(document, Some(body), version, jobs).await?)
    }
}

fn wanted_keys(plan: &Plan) -> BTreeMap<TableId, BTreeMap<Vec<String>, ()>> {
    let mut wanted: BTreeMap<TableId, BTreeMap<Vec<String>, ()>> = BTreeMap::new();
    for step in plan.steps() {
        if let Content::Read(parts) = &step.content {
            wanted.entry(step.table).or_default().insert(parts.clone(), ());
        }
    }
    wanted
}

/// The needed rows that the cache does not know, parents along a path included.
fn missing(definition: &Definition, cache: &Cache, needs: &[RequiredRow]) -> Vec<RequiredRow> {
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
pub(in crate::engine::feed) async fn embed(
    view: &mut View<'_>,
    definition: &Definition,
    cache: &mut Cache,
    needs: &[RequiredRow],
) -> Result<(), ReadError> {
    loop {
        let unknown = missing(definition, cache, needs);
        if unknown.is_empty() {
            return Ok(());
        }
        let mut tables: BTreeMap<TableId, Vec<Vec<String>>> = BTreeMap::new();
        for need in unknown {
            tables.entry(need.table).or_default().push(vec![need.key]);
        }
        for (table, mut keys) in tables {
            keys.sort();
            keys.dedup();
            for chunk in keys.chunks(KEYS_MAX) {
                let horizon = view.horizon();
                for Found { key, row } in view.by_key(table, chunk).await? {
                    cache.insert(table, key, Some(row), horizon);
                }
                for key in chunk.iter().flatten() {
                    if !cache.knows(table, key) {
                        cache.insert(table, key.clone(), None, horizon);
                    }
                }
            }
        }
    }
}
