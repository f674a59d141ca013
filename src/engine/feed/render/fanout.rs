//! Rewrites the documents that show a changed row.
//!
//! A category is shown by its listings, and by those of every category below it; a profile by its
//! listings. The rows that show a changed row are read as they are now and sent under the
//! version of the change that caused it, chunk by chunk, before any later change is rendered.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::execute::embed;
use super::query::Referring;
use super::read::KeyedRow;
use super::{BatchOutput, Renderer};
use crate::ack::batch::JobKey;
use crate::change::{Position, TableId};
use crate::engine::document::build;
use crate::engine::document::definition::{Dependent, SourceId};
use crate::engine::document::id::DocumentId;
use crate::engine::document::route;
use crate::engine::feed::FeedError;

/// Rows rewritten per read.
const ROWS_MAX: i64 = 500;

/// A change that rewrites documents, and its job.
#[derive(Clone, Copy, Debug)]
pub(super) struct FanoutCause {
    pub position: Position,
    pub job: JobKey,
}

/// The values that dependent rows refer to, each with the changes of the row that has it.
type Causes = HashMap<String, Vec<FanoutCause>>;

/// The changes of one row. A document that shows the row has one reference for all of them, so that
/// many changes of a row that many documents show take no room for each pair.
#[derive(Debug)]
pub(super) struct CauseGroup {
    highest: Position,
    jobs: Arc<[JobKey]>,
}

impl CauseGroup {
    fn of(causes: &[FanoutCause]) -> Arc<Self> {
        let highest = causes.iter().map(|cause| cause.position).max().unwrap_or_default();
        Arc::new(Self { highest, jobs: causes.iter().map(|cause| cause.job).collect() })
    }
}

/// The values that dependent rows refer to, each with the rows whose changes rewrite them.
type CauseGroups = HashMap<String, SmallVec<[Arc<CauseGroup>; 1]>>;

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
    /// Rewrites all dependents of a batch.
    pub(super) async fn fan_out(
        &mut self,
        output: BatchOutput<'_>,
        fanouts: Fanouts,
    ) -> Result<(), FeedError> {
        for Fanout { changed, dependent, causes } in fanouts.0 {
            let group = |(key, list): (String, Vec<_>)| (key, smallvec![CauseGroup::of(&list)]);
            let mut groups: CauseGroups = causes.into_iter().map(group).collect();
            if dependent.path {
                groups = self.below(changed, &dependent, groups).await?;
            }
            self.rewrite(output, &dependent, &groups).await?;
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
                spread.entry(below).or_default().extend(list.iter().cloned());
            }
        }
        reads.commit().await?;
        Ok(spread)
    }

    async fn rewrite(
        &mut self,
        output: BatchOutput<'_>,
        dependent: &Dependent,
        groups: &CauseGroups,
    ) -> Result<(), FeedError> {
        let values: Vec<String> = groups.keys().cloned().collect();
        let mut after: Option<Vec<String>> = None;
        while !values.is_empty() {
            let chunk = self.rows_that_show(dependent, Some(&values), after.as_deref()).await?;
            for found in &chunk {
                let value = found.row.text(&dependent.by).unwrap_or_default();
                let Some(causes) = groups.get(&value) else { continue };
                for source in &dependent.sources {
                    self.rewrite_one(output, *source, found, causes).await?;
                }
            }
            let Some(last) = chunk.last() else { return Ok(()) };
            after = Some(self.shapes.of(dependent.table).key_parts(&last.row));
        }
        Ok(())
    }

    /// Rewrites every row that shows any row of a truncated table.
    pub(super) async fn rewrite_all(
        &mut self,
        output: BatchOutput<'_>,
        truncated: TableId,
        cause: FanoutCause,
    ) -> Result<(), FeedError> {
        let definition = Arc::clone(&self.definition);
        let cause = CauseGroup::of(&[cause]);
        for dependent in definition.dependents_of(truncated) {
            let mut after: Option<Vec<String>> = None;
            loop {
                let chunk = self.rows_that_show(dependent, None, after.as_deref()).await?;
                for found in &chunk {
                    for source in &dependent.sources {
                        self.rewrite_one(output, *source, found, std::slice::from_ref(&cause))
                            .await?;
                    }
                }
                let Some(last) = chunk.last() else { break };
                after = Some(self.shapes.of(dependent.table).key_parts(&last.row));
            }
        }
        Ok(())
    }

    /// The next rows of a dependent table. The rows that their documents embed are cached, and the
    /// documents count as read ahead. `None` for the values means all rows.
    async fn rows_that_show(
        &mut self,
        dependent: &Dependent,
        values: Option<&[String]>,
        after: Option<&[String]>,
    ) -> Result<Vec<KeyedRow>, FeedError> {
        self.cache.trim();
        let mut reads = self.reader.begin().await?;
        let snapshot_lsn = reads.snapshot_lsn();
        let table = dependent.table;
        let found = match values {
            Some(values) => {
                let referring = Referring { column: &dependent.by, values };
                reads.referring(table, referring, after, ROWS_MAX).await?
            }
            None => reads.after(table, after, ROWS_MAX).await?,
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
        causes: &[Arc<CauseGroup>],
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
