//! The queue's figures as the replaced system tells them.
//!
//! Not here: how they are kept (`queue`), and how often they are read (`sampler`).

use axum::Json;
use axum::extract;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Number;
use tokio_postgres::error::SqlState;
use tracing::debug;

use crate::admin::figures::sample::Counts;
use crate::api::{PoolError, Problem, State};
use crate::postgres::error::sentence;
use crate::storage::QueueError;

/// The body of `GET stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub total: i64,
    pub pending: i64,
    pub processing: i64,
    pub completed: i64,
    pub failed: i64,
    /// `processing` for longer than 30 s.
    pub stuck: i64,
    /// Milliseconds from a change's commit to its job's end.
    #[schemars(with = "f64")]
    pub avg_processing_time: Number,
    /// ISO 8601, UTC.
    pub last_processed_at: Option<String>,
}

impl From<&Counts> for Stats {
    fn from(counts: &Counts) -> Self {
        Self {
            total: counts.total,
            pending: counts.pending,
            processing: counts.processing,
            completed: counts.completed,
            failed: counts.failed,
            stuck: counts.stuck,
            avg_processing_time: milliseconds(counts.processing_time_ms),
            last_processed_at: counts.last_processed_at.clone(),
        }
    }
}

/// `GET stats`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<State>,
) -> Result<Json<Stats>, Problem> {
    let figures = state.sampler.now().await.map_err(|error| problem(&error))?;
    Ok(Json(Stats::from(&figures.sample.counts)))
}

/// To the microsecond; a whole number without a fraction, as the replaced system has it.
pub(in crate::api) fn milliseconds(value: f64) -> Number {
    let rounded = (value * 1000.0).round() / 1000.0;
    let text = rounded.to_string();
    text.parse::<i64>().ok().map(Number::from).or(Number::from_f64(rounded)).unwrap_or(0.into())
}

/// What a client may know of a failure; the log has the rest.
pub(in crate::api) fn problem(error: &PoolError) -> Problem {
    let (code, detail) = match error {
        PoolError::Query(source) | PoolError::Queue(QueueError::Database { source, .. }) => {
            of_state(source.code())
        }
        PoolError::Busy => ("busy", "more was asked for than PostgreSQL is asked at once"),
        _ => of_state(None),
    };
    debug!(
        event = "database_unavailable",
        error = sentence(error),
        "no answer from PostgreSQL for the API"
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
}

fn of_state(state: Option<&SqlState>) -> (&'static str, &'static str) {
    let missing =
        [&SqlState::UNDEFINED_TABLE, &SqlState::UNDEFINED_FUNCTION, &SqlState::INVALID_SCHEMA_NAME];
    match state {
        Some(state) if missing.contains(&state) => {
            ("not_migrated", "a part of the queue does not exist yet; run `walferry migrate`")
        }
        Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
            ("not_permitted", "walferry's role may not read the queue; run `walferry check`")
        }
        Some(state) if *state == SqlState::LOCK_NOT_AVAILABLE => (
            "locked",
            "somebody's transaction holds what this is about; try again when it has ended",
        ),
        Some(state) if *state == SqlState::QUERY_CANCELED => {
            ("too_much", "that takes PostgreSQL too long; ask for less: a table, a status, a day")
        }
        _ => ("database_unavailable", "PostgreSQL does not answer; try again"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Stats, milliseconds};

    #[test]
    fn the_body_is_the_documented_one() {
        let stats = Stats {
            total: 7,
            pending: 1,
            processing: 2,
            completed: 3,
            failed: 1,
            stuck: 0,
            avg_processing_time: milliseconds(1250.0),
            last_processed_at: None,
        };
        let expected = concat!(
            r#"{"total":7,"pending":1,"processing":2,"completed":3,"failed":1,"stuck":0,"#,
            r#""avgProcessingTime":1250,"lastProcessedAt":null}"#,
        );
        assert_eq!(serde_json::to_string(&stats).unwrap(), expected);
    }

    #[test]
    fn milliseconds_are_numbers_whatever_comes() {
        let check = |value, expected: &str| assert_eq!(milliseconds(value).to_string(), expected);
        check(0.0, "0");
        check(1250.0, "1250");
        check(15.3214, "15.321");
        check(-2.0, "-2");
        check(f64::NAN, "0");
        check(f64::INFINITY, "0");
    }
}
