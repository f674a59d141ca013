//! The rows that a fan-out rewrites, and the changes that cause it. Pure.
//!
//! Not here: reading and sending them (`fanout`), and their stored form (`ack::fanout`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::ack::batch::JobKey;
use crate::ack::fanout::{BegunFanout, FanoutGroup, FanoutRows};
use crate::change::{Position, Row, TableId};
use crate::engine::document::definition::{Definition, Dependent};
use crate::engine::document::shape::Shapes;

/// A change that rewrites documents, and its job.
#[derive(Clone, Copy, Debug)]
pub(super) struct FanoutCause {
    pub position: Position,
    pub job: JobKey,
}

/// The changes of one row. A document that shows the row has one reference for all of them, so that
/// many changes of a row that many documents show take no room for each pair.
#[derive(Clone, Debug)]
pub(in crate::engine::feed) struct CauseGroup {
    pub(super) highest: Position,
    /// At least one.
    pub(super) jobs: Arc<[JobKey]>,
}

impl CauseGroup {
    pub(super) fn of(causes: &[FanoutCause]) -> Self {
        let highest = causes.iter().map(|cause| cause.position).max().unwrap_or_default();
        Self { highest, jobs: causes.iter().map(|cause| cause.job).collect() }
    }
}

/// The rows that a fan-out rewrites.
#[derive(Clone, Debug)]
pub(in crate::engine::feed) struct RowsToRewrite {
    pub(in crate::engine::feed) changed: TableId,
    pub(in crate::engine::feed) dependent: Dependent,
    /// The values that they refer to, each with the numbers of its groups; `None` for all rows,
    /// which are those of group 0.
    pub(super) values: Option<HashMap<String, SmallVec<[u32; 1]>>>,
    pub(super) groups: Vec<CauseGroup>,
}

impl RowsToRewrite {
    /// The rows of a stored fan-out; `None` if the definition has no such rows any more.
    pub(in crate::engine::feed) fn of(
        stored: BegunFanout,
        definition: &Definition,
        shapes: &Shapes,
    ) -> Option<Self> {
        let table =
            |label: &str| (0..).map(TableId).zip(shapes.iter()).find(|(_, s)| s.label() == label);
        let FanoutRows { changed, table: rewritten, column, path, values } = stored.rows;
        let (changed, _) = table(&changed)?;
        let (rewritten, _) = table(&rewritten)?;
        let is_same = |d: &&Dependent| d.table == rewritten && d.by == column && d.path == path;
        let dependent = definition.dependents_of(changed).iter().find(is_same)?.clone();
        let group = |FanoutGroup { highest, jobs }| {
            let jobs = if jobs.is_empty() { Arc::from([JobKey::GONE]) } else { jobs };
            CauseGroup { highest, jobs }
        };
        Some(Self {
            changed,
            dependent,
            values: values.map(|values| {
                values.into_iter().map(|(value, groups)| (value, groups.into())).collect()
            }),
            groups: stored.groups.into_iter().map(group).collect(),
        })
    }

    /// The bytes on the heap, about.
    pub(in crate::engine::feed) fn size(&self) -> usize {
        let values = self.values.iter().flatten();
        let values = values.map(|(value, groups)| {
            size_of::<(String, SmallVec<[u32; 1]>)>() + value.len() + size_of_val(&**groups)
        });
        let groups = self.groups.iter();
        let groups = groups.map(|group| size_of_val(group) + size_of_val(&*group.jobs));
        values.sum::<usize>() + groups.sum::<usize>()
    }

    /// As the batch of the changes leaves it to the background.
    pub(super) fn begun(&self, shapes: &Shapes) -> BegunFanout {
        let values = self.values.as_ref().map(|values| {
            let list = values.iter().map(|(value, groups)| (value.clone(), groups.to_vec()));
            list.collect::<BTreeMap<_, _>>()
        });
        let group = |group: &CauseGroup| FanoutGroup {
            highest: group.highest,
            jobs: Arc::clone(&group.jobs),
        };
        BegunFanout {
            rows: FanoutRows {
                changed: shapes.of(self.changed).label(),
                table: shapes.of(self.dependent.table).label(),
                column: self.dependent.by.clone(),
                path: self.dependent.path,
                values,
            },
            groups: self.groups.iter().map(group).collect(),
        }
    }

    /// The values that the rows refer to; `None` for all rows.
    pub(super) fn value_list(&self) -> Option<Vec<String>> {
        self.values.as_ref().map(|values| values.keys().cloned().collect())
    }

    /// The changes that a row shows.
    pub(super) fn causes_of(&self, row: &Row) -> SmallVec<[&CauseGroup; 1]> {
        let Some(values) = &self.values else { return self.groups.iter().collect() };
        let groups = row.text(&self.dependent.by).and_then(|value| values.get(&value));
        let numbers = groups.into_iter().flatten();
        numbers.filter_map(|number| self.groups.get(usize::try_from(*number).ok()?)).collect()
    }

    /// Whether the other fan-out rewrites the same rows.
    pub(in crate::engine::feed) fn is_same(&self, other: &Self) -> bool {
        self.changed == other.changed
            && self.dependent == other.dependent
            && match (&self.values, &other.values) {
                (None, None) => true,
                (Some(own), Some(values)) => {
                    own.len() == values.len() && own.keys().all(|value| values.contains_key(value))
                }
                _ => false,
            }
    }

    /// Adds the changes of a fan-out that rewrites the same rows.
    pub(in crate::engine::feed) fn merge(&mut self, other: Self) {
        let offset = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        self.groups.extend(other.groups);
        let (Some(values), Some(more)) = (&mut self.values, other.values) else { return };
        for (value, groups) in more {
            let moved = groups.into_iter().map(|number| number.saturating_add(offset));
            values.entry(value).or_default().extend(moved);
        }
    }

    /// How many jobs it has.
    pub(in crate::engine::feed) fn job_count(&self) -> usize {
        self.groups.iter().map(|group| group.jobs.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Lsn;
    use crate::engine::document::parse;

    /// Rows that refer to values, each with its groups; a group for each position.
    fn rows(values: &[(&str, &[u32])], positions: &[u64]) -> RowsToRewrite {
        let definition = parse::parse(None).unwrap();
        let changed = (0..).map(TableId).find(|t| !definition.dependents_of(*t).is_empty());
        let changed = changed.unwrap();
        let list = values.iter().map(|(value, groups)| {
            let groups = groups.iter().copied().collect();
            ((*value).to_owned(), groups)
        });
        let group = |lsn: &u64| CauseGroup {
            highest: Position { commit_lsn: Lsn(*lsn), ordinal: 0 },
            jobs: Arc::from([JobKey::Id(i64::try_from(*lsn).unwrap())]),
        };
        RowsToRewrite {
            changed,
            dependent: definition.dependents_of(changed)[0].clone(),
            values: Some(list.collect()),
            groups: positions.iter().map(group).collect(),
        }
    }

    fn causes(of: &RowsToRewrite, value: &str) -> Vec<u64> {
        let json = format!(r#"{{"{}":"{value}"}}"#, of.dependent.by);
        let row = Row::parse(&json, None).unwrap();
        of.causes_of(&row).iter().map(|group| group.highest.commit_lsn.0).collect()
    }

    #[test]
    fn a_row_has_the_causes_of_its_value() {
        let rows = rows(&[("a", &[0]), ("b", &[0, 1])], &[10, 20]);
        assert_eq!(causes(&rows, "a"), [10]);
        assert_eq!(causes(&rows, "b"), [10, 20]);
        assert_eq!(causes(&rows, "c"), [] as [u64; 0]);
        assert_eq!(rows.job_count(), 2);
    }

    #[test]
    fn fan_outs_of_the_same_rows_are_merged() {
        let mut first = rows(&[("a", &[0]), ("b", &[1])], &[10, 20]);
        let second = rows(&[("b", &[0]), ("a", &[0])], &[30]);
        assert!(first.is_same(&second));
        assert!(!first.is_same(&rows(&[("a", &[0])], &[40])));
        assert!(!first.is_same(&RowsToRewrite { values: None, ..second.clone() }));
        first.merge(second);
        assert_eq!(causes(&first, "a"), [10, 30]);
        assert_eq!(causes(&first, "b"), [20, 30]);
    }

    #[test]
    fn all_rows_have_all_causes() {
        let all = RowsToRewrite { values: None, ..rows(&[], &[10]) };
        assert_eq!(causes(&all, "any"), [10]);
        assert_eq!(all.value_list(), None);
    }
}
