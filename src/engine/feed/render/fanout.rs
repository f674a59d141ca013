//! Rewrites the documents that show a changed row.
//!
//! A renamed category is shown by its listings, and by those of every category below it; a
//! profile by its listings. The rows that show it are read as they are now and sent under the
//! version of the change that caused it, chunk by chunk, before any later change is looked at.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::read::Found;
use super::render::embed;
use crate::ack::batch::{JobKey, PendingBatch};
use crate::change::{Position, TableId};
use crate::engine::document::build;
use crate::engine::document::definition::{Dependent, SourceId};
use crate::engine::document::id::DocumentId;
use crate::engine::document::route;
use crate::engine::feed::{Feed, FeedError};

/// Rows rewritten per read.
const ROWS_MAX: i64 = 500;

/// Changes of one table whose dependents are rewritten in one go: the values that the dependents
/// refer to, each with its causes.
#[derive(Debug, Default)]
pub(in crate::engine::feed) struct Causes {
    /// Referred value → the changes that caused it.
    pub values: HashMap<String, Vec<(Position, JobKey)>>,
}

/// Fan-outs of one batch, grouped by what depends how.
#[derive(Debug, Default)]
pub(in crate::engine::feed) struct Fanouts {
    groups: Vec<(TableId, Dependent, Causes)>,
}

impl Fanouts {
    /// Adds a change of a row that `dependent` rows show by this key.
    pub(in crate::engine::feed) fn add(
        &mut self,
        changed: TableId,
        dependent: &Dependent,
        key: String,
        cause: (Position, JobKey),
    ) {
        let place = self.groups.iter().position(|(t, d, _)| *t == changed && d == dependent);
        let place = place.unwrap_or_else(|| {
            self.groups.push((changed, dependent.clone(), Causes::default()));
            self.groups.len() - 1
        });
        self.groups[place].2.values.entry(key).or_default().push(cause);
    }
}

impl Feed {
    /// Rewrites all dependents of a batch.
    pub(in crate::engine::feed) async fn fan_out(
        &mut self,
        pending: &Arc<PendingBatch>,
        fanouts: Fanouts,
    ) -> Result<(), FeedError> {
        for (changed, dependent, causes) in fanouts.groups {
            let causes = if dependent.path {
                self.below(changed, &dependent, causes).await?
            } else {
                causes
            };
            self.rewrite(pending, &dependent, &causes).await?;
        }
        Ok(())
    }

    /// Spreads each cause to all keys below its own along the table's parent column.
    async fn below(
        &mut self,
        changed: TableId,
        dependent: &Dependent,
        causes: Causes,
    ) -> Result<Causes, FeedError> {
        let Some(parent) = self.definition.tree(changed).map(|tree| tree.parent.clone()) else {
            return Ok(causes);
        };
        let own_key = self.shapes.of(changed).key.first();
        let by_own_key =
            dependent.table == changed && own_key.is_some_and(|key| key.name == dependent.by);
        let mut spread = Causes::default();
        let mut view = self.reader.view().await?;
        for (key, list) in causes.values {
            for below in view.descendants(changed, &parent, std::slice::from_ref(&key)).await? {
                // The row itself has its own step in the plan.
                if by_own_key && below == key {
                    continue;
                }
                spread.values.entry(below).or_default().extend(list.iter().copied());
            }
        }
        view.close().await?;
        Ok(spread)
    }

    async fn rewrite(
        &mut self,
        pending: &Arc<PendingBatch>,
        dependent: &Dependent,
        causes: &Causes,
    ) -> Result<(), FeedError> {
        let values: Vec<String> = causes.values.keys().cloned().collect();
        let mut after: Option<Vec<String>> = None;
        while !values.is_empty() {
            let chunk = self.rows_that_show(dependent, Some(&values), after.as_deref()).await?;
            for found in &chunk {
                let value = found.row.text(&dependent.by).unwrap_or_default();
                let Some(list) = causes.values.get(&value) else { continue };
                for source in &dependent.sources {
                    self.rewrite_one(pending, *source, found, list).await?;
                }
            }
            let Some(last) = chunk.last() else { return Ok(()) };
            after = Some(self.shapes.of(dependent.table).key_parts(&last.row));
        }
        Ok(())
    }

    /// Rewrites every row that shows any row of a truncated table.
    pub(in crate::engine::feed) async fn rewrite_all(
        &mut self,
        pending: &Arc<PendingBatch>,
        truncated: TableId,
        cause: (Position, JobKey),
    ) -> Result<(), FeedError> {
        let definition = Arc::clone(&self.definition);
        for dependent in definition.dependents_of(truncated) {
            let mut after: Option<Vec<String>> = None;
            loop {
                let chunk = self.rows_that_show(dependent, None, after.as_deref()).await?;
                for found in &chunk {
                    for source in &dependent.sources {
                        self.rewrite_one(pending, *source, found, &[cause]).await?;
                    }
                }
                let Some(last) = chunk.last() else { break };
                after = Some(self.shapes.of(dependent.table).key_parts(&last.row));
            }
        }
        Ok(())
    }

    /// The next rows of a dependent table, with what their documents embed in the cache, and
    /// noted as read ahead. `None` for the values means all rows.
    async fn rows_that_show(
        &mut self,
        dependent: &Dependent,
        values: Option<&[String]>,
        after: Option<&[String]>,
    ) -> Result<Vec<Found>, FeedError> {
        self.cache.trim();
        let mut view = self.reader.view().await?;
        let horizon = view.horizon();
        let table = dependent.table;
        let found = match values {
            Some(values) => view.referring(table, (&dependent.by, values), after, ROWS_MAX).await?,
            None => view.after(table, after, ROWS_MAX).await?,
        };
        let mut needs = Vec::new();
        for row in &found {
            for source in &dependent.sources {
                route::needs(&self.definition, *source, &row.row, &mut needs);
            }
        }
        embed(&mut view, &self.definition, &mut self.cache, &needs).await?;
        view.close().await?;
        let documents: Vec<DocumentId> = found
            .iter()
            .flat_map(|row| dependent.sources.iter().map(move |source| (*source, row)))
            .map(|(source, row)| self.definition.document(source, &row.key))
            .collect();
        self.rendered_by_read(&documents, horizon).await?;
        Ok(found)
    }

    async fn rewrite_one(
        &mut self,
        pending: &Arc<PendingBatch>,
        source: SourceId,
        found: &Found,
        causes: &[(Position, JobKey)],
    ) -> Result<(), FeedError> {
        if !build::included(self.definition.source(source), &found.row) {
            return Ok(());
        }
        let jobs: SmallVec<_> = causes.iter().map(|(_, job)| pending.reference(*job)).collect();
        let highest = causes.iter().map(|(position, _)| *position).max().unwrap_or_default();
        match self.version(source, highest) {
            Some(version) => self.send_row(source, found, version, jobs).await,
            None => Ok(self.emitter.done(jobs).await?),
        }
    }
}
