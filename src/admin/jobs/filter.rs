//! A filter of jobs: conditions that must all hold, as SQL with parameters. Pure.
//!
//! Not here: what is done with the jobs (`list`, `operations`).

use std::time::SystemTime;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::storage::queue::status::Status;

/// A filter of jobs. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub ids: Option<Vec<i64>>,
    pub table: Option<String>,
    pub status: Option<Status>,
    /// `processing` for longer than 30 s; `status` says nothing then.
    pub stuck: bool,
    /// A word of `Operation`.
    pub operation: Option<String>,
    pub record_id: Option<Uuid>,
    /// A part of `error_message`, in any case.
    pub error: Option<String>,
    /// Refused at least this often.
    pub attempts_min: Option<i32>,
    /// Committed at this moment or later.
    pub since: Option<SystemTime>,
    /// Committed before this moment.
    pub until: Option<SystemTime>,
}

/// The words for a status in a filter, as [`Filter::status`] and [`Filter::stuck`] have it.
pub const STATUSES: [(&str, (Option<Status>, bool)); 5] = [
    ("pending", (Some(Status::Pending), false)),
    ("processing", (Some(Status::Processing), false)),
    ("completed", (Some(Status::Completed), false)),
    ("failed", (Some(Status::Failed), false)),
    ("stuck", (None, true)),
];

/// A job `processing` for longer than 30 s is stuck.
const STUCK: &str = "walferry.is_stuck(q.status, q.started_at, q.created_at)";

/// A job that waits for a fan-out is not stuck.
const NO_FANOUT: &str = "not exists (select from walferry.fanout_job f where f.job_id = q.id)";

/// Conditions on `q`, joined by `and`, and their parameters.
pub(crate) struct Conditions<'a> {
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Box<dyn ToSql + Sync + Send + 'a>>,
}

impl Conditions<'_> {
    /// The parameters of a query, with `more` behind them.
    pub(crate) fn with<'p>(
        &'p self,
        more: &[&'p (dyn ToSql + Sync)],
    ) -> Vec<&'p (dyn ToSql + Sync)> {
        let own = self.parameters.iter().map(|value| &**value as &(dyn ToSql + Sync));
        own.chain(more.iter().copied()).collect()
    }

    /// `$n` of the parameter number `place` of `more`, from 1.
    pub(crate) fn after(&self, place: usize) -> String {
        format!("${}", self.parameters.len() + place)
    }
}

impl Filter {
    /// The jobs of one record.
    #[must_use]
    pub fn of_record(table: &str, record_id: Uuid) -> Self {
        Self { table: Some(table.to_owned()), record_id: Some(record_id), ..Self::default() }
    }

    /// The job with this number.
    #[must_use]
    pub fn of_job(id: i64) -> Self {
        Self { ids: Some(vec![id]), ..Self::default() }
    }

    /// Nothing but a status, or nothing: the statistics have the number of such jobs.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self { status: self.status, stuck: self.stuck, ..Self::default() }
    }

    /// Few rows can match, and an index finds them.
    pub(crate) fn is_narrow(&self) -> bool {
        self.ids.is_some() || self.record_id.is_some()
    }

    /// `tables` are those that have jobs: an index finds a record by its table.
    pub(crate) fn conditions<'a>(&'a self, tables: &'a [String]) -> Conditions<'a> {
        let mut conditions = Conditions { sql: "true".to_owned(), parameters: Vec::new() };
        let mut add = |before: &str, value: Box<dyn ToSql + Sync + Send + 'a>, after: &str| {
            conditions.parameters.push(value);
            let place = conditions.parameters.len();
            conditions.sql.push_str(&format!(" and {before} ${place}{after}"));
        };
        if let Some(ids) = &self.ids {
            add("q.id = any (", Box::new(ids), ")");
        }
        match (&self.table, self.record_id) {
            (Some(table), _) => add("q.table_name =", Box::new(table), ""),
            (None, Some(_)) => add("q.table_name = any (", Box::new(tables), ")"),
            (None, None) => {}
        }
        if let Some(id) = self.record_id {
            add("q.record_id =", Box::new(id), "");
        }
        if let Some(operation) = &self.operation {
            add("q.operation =", Box::new(operation), "");
        }
        if let Some(error) = &self.error {
            add("strpos(lower(q.error_message), lower(", Box::new(error), ")) > 0");
        }
        if let Some(attempts) = self.attempts_min {
            add("q.retry_count >=", Box::new(attempts), "");
        }
        if let Some(since) = self.since {
            add("q.created_at >=", Box::new(since), "");
        }
        if let Some(until) = self.until {
            add("q.created_at <", Box::new(until), "");
        }
        match self.status {
            _ if self.stuck => conditions.sql.push_str(&format!(" and {STUCK} and {NO_FANOUT}")),
            Some(status) => {
                // A literal, so that the planner can use a partial index.
                conditions.sql.push_str(&format!(" and q.status = '{}'", status.as_str()));
            }
            None => {}
        }
        conditions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_matches_all_jobs() {
        let filter = Filter::default();
        let conditions = filter.conditions(&[]);
        assert_eq!((conditions.sql.as_str(), conditions.parameters.len()), ("true", 0));
        assert!(filter.is_plain());
    }

    #[test]
    fn each_condition_has_its_parameter() {
        let tables = ["listings".to_owned()];
        let filter = Filter {
            ids: Some(vec![1]),
            record_id: Some(Uuid::nil()),
            status: Some(Status::Failed),
            error: Some("x".to_owned()),
            attempts_min: Some(2),
            ..Filter::default()
        };
        let conditions = filter.conditions(&tables);
        assert_eq!(conditions.parameters.len(), 5);
        assert_eq!(
            conditions.sql,
            "true and q.id = any ( $1) and q.table_name = any ( $2) and q.record_id = $3 \
             and strpos(lower(q.error_message), lower( $4)) > 0 and q.retry_count >= $5 \
             and q.status = 'failed'"
        );
        assert_eq!(conditions.after(1), "$6");
        assert!(!filter.is_plain() && filter.is_narrow());
    }
}
