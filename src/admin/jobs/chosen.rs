//! The jobs that an operation is about, fixed before it begins: what comes to match while it works is
//! not touched, and the audit log says which they were.
//!
//! Not here: what is done with them (`operations`).

use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use super::filter::Filter;
use crate::storage::{QueueError, doing};
use crate::value;

/// Jobs of one operation at most; more need another one.
const JOBS_MAX: usize = 250_000;
/// Jobs of one statement.
const JOBS_AT_ONCE: usize = 2_000;
/// So many ids are written out; more are given by the first, the last and a hash.
const LISTED_MAX: usize = 20;

/// Jobs by number, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChosenJobs {
    /// Number and day: the key of the queue's rows.
    jobs: Vec<(i64, SystemTime)>,
    /// No more jobs match.
    pub(super) are_all: bool,
}

/// A part of the chosen jobs, and the span of time that they were made in.
pub(super) struct ChosenChunk {
    pub(super) ids: Vec<i64>,
    pub(super) from: SystemTime,
    pub(super) to: SystemTime,
}

impl ChosenJobs {
    /// The jobs that match now.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub(super) async fn choose(
        client: &Client,
        filter: &Filter,
        tables: &[String],
    ) -> Result<Self, QueueError> {
        let choosing = doing("choose jobs");
        let conditions = filter.conditions(tables);
        let sql = format!(
            "select q.id, q.created_at from public.elasticsearch_sync_queue q
             where {} order by q.id limit {}",
            conditions.sql,
            conditions.after(1)
        );
        let limit = i64::try_from(JOBS_MAX + 1).unwrap_or(i64::MAX);
        let rows = client.query(&sql, &conditions.with(&[&limit])).await;
        let rows = rows.map_err(&choosing)?;
        let job = |row: &tokio_postgres::Row| Ok((row.try_get("id")?, row.try_get("created_at")?));
        let jobs: Result<Vec<(i64, SystemTime)>, tokio_postgres::Error> =
            rows.iter().map(job).collect();
        Ok(Self::of(jobs.map_err(choosing)?))
    }

    fn of(mut jobs: Vec<(i64, SystemTime)>) -> Self {
        let are_all = jobs.len() <= JOBS_MAX;
        jobs.truncate(JOBS_MAX);
        Self { jobs, are_all }
    }

    /// How many they are.
    pub(super) fn len(&self) -> u64 {
        self.jobs.len() as u64
    }

    /// The jobs in parts, each for one statement.
    pub(super) fn chunks(&self) -> impl Iterator<Item = ChosenChunk> {
        self.jobs.chunks(JOBS_AT_ONCE).filter_map(|part| {
            let times = || part.iter().map(|(_, at)| *at);
            Some(ChosenChunk {
                ids: part.iter().map(|(id, _)| *id).collect(),
                from: times().min()?,
                to: times().max()?,
            })
        })
    }

    /// Which they are, for the audit log. The hash is that of the ids with commas between them.
    pub(super) fn words(&self) -> String {
        let ids = self.jobs.iter().map(|(id, _)| id.to_string());
        match self.jobs.as_slice() {
            [] => "no job".to_owned(),
            few if few.len() <= LISTED_MAX => {
                let ids: Vec<String> = ids.collect();
                let word = if ids.len() == 1 { "job" } else { "jobs" };
                format!("{word} {}", ids.join(", "))
            }
            [(first, _), .., (last, _)] => {
                format!("{} jobs from {first} to {last}, sha256 {}", self.len(), hash(ids))
            }
            [_] => unreachable!("one job is few"),
        }
    }
}

fn hash(ids: impl Iterator<Item = String>) -> String {
    let mut hasher = Sha256::new();
    for (place, id) in ids.enumerate() {
        if place > 0 {
            hasher.update(b",");
        }
        hasher.update(id.as_bytes());
    }
    value::hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(count: i64) -> ChosenJobs {
        ChosenJobs::of((1..=count).map(|id| (id, SystemTime::UNIX_EPOCH)).collect())
    }

    #[test]
    fn the_audit_log_names_few_jobs_and_hashes_many() {
        assert_eq!(chosen(0).words(), "no job");
        assert_eq!(chosen(1).words(), "job 1");
        assert_eq!(chosen(3).words(), "jobs 1, 2, 3");
        let many = chosen(21).words();
        assert!(many.starts_with("21 jobs from 1 to 21, sha256 "), "{many}");
        let other = ChosenJobs::of((0..=20).map(|id| (id, SystemTime::UNIX_EPOCH)).collect());
        assert_ne!(many.split(' ').next_back(), other.words().split(' ').next_back());
    }

    #[test]
    fn no_operation_is_about_more_jobs_than_fit() {
        let most = chosen(250_000);
        assert_eq!((most.are_all, most.len(), most.chunks().count()), (true, 250_000, 125));
        let more = chosen(250_001);
        assert_eq!((more.are_all, more.len()), (false, 250_000));
    }
}
