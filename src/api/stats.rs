//! The queue's figures.
//!
//! Not here: how they are kept (`queue`); this asks the database's own function for them.

use std::time::Duration;

use axum::Json;
use axum::extract;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Number;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tracing::debug;

use super::{Pool, PoolError, Problem, State};

/// Answers are this old at most; so many pages may ask as often as they like.
const AGE_MAX: Duration = Duration::from_secs(1);

/// Counts as the SQL function has them, and jobs `processing` for longer than the horizon of
/// 30 s. Rows that something else put there have no `started_at`. Only the oldest 10,000 are looked
/// at: that many are bad enough, and the answer must not wait.
const STATS: &str = "
    select s.total_jobs, s.pending_jobs, s.processing_jobs, s.completed_jobs, s.failed_jobs,
           (select count(*)
            from (select q.started_at, q.created_at from public.elasticsearch_sync_queue q
                  where q.status = 'processing' and q.created_at < now() - interval '30 s'
                  order by q.created_at limit 10000) oldest
            where coalesce(oldest.started_at, oldest.created_at) < now() - interval '30 s'),
           s.avg_processing_time::float8,
           to_char(s.last_processed_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
    from public.get_elasticsearch_queue_stats() s";

/// The body of `GET stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    pub avg_processing_time: Number,
    /// ISO 8601, UTC.
    pub last_processed_at: Option<String>,
}

/// The last answer. The lock is held while asking, so that one request asks for all.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Option<(Instant, Stats)>>);

/// `GET stats`.
pub(super) async fn get(
    extract::State(state): extract::State<State>,
) -> Result<Json<Stats>, Problem> {
    let mut last = state.stats.0.lock().await;
    if let Some((at, stats)) = last.as_ref().filter(|(at, _)| at.elapsed() < AGE_MAX) {
        debug!(age = ?at.elapsed(), "statistics from memory");
        return Ok(Json(stats.clone()));
    }
    let stats = read(&state.pool).await.map_err(problem)?;
    *last = Some((Instant::now(), stats.clone()));
    Ok(Json(stats))
}

async fn read(pool: &Pool) -> Result<Stats, PoolError> {
    let rows = pool.query(STATS, &[]).await?;
    let row = rows.first().expect("aggregates without a group always give one row");
    Ok(from_row(row)?)
}

fn from_row(row: &Row) -> Result<Stats, tokio_postgres::Error> {
    Ok(Stats {
        total: row.try_get(0)?,
        pending: row.try_get(1)?,
        processing: row.try_get(2)?,
        completed: row.try_get(3)?,
        failed: row.try_get(4)?,
        stuck: row.try_get(5)?,
        avg_processing_time: milliseconds(row.try_get::<_, Option<f64>>(6)?.unwrap_or(0.0)),
        last_processed_at: row.try_get(7)?,
    })
}

/// To the microsecond; a whole number without a fraction, as the replaced system has it.
fn milliseconds(value: f64) -> Number {
    let rounded = (value * 1000.0).round() / 1000.0;
    let text = rounded.to_string();
    text.parse::<i64>().ok().map(Number::from).or(Number::from_f64(rounded)).unwrap_or(0.into())
}

/// What a client may know of a failure; the log has the rest.
pub(super) fn problem(error: PoolError) -> Problem {
    let state = match &error {
        PoolError::Query(error) => error.code(),
        _ => None,
    };
    let missing = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_FUNCTION];
    let (code, detail) = match state {
        Some(state) if missing.contains(state) => {
            ("not_migrated", "the queue does not exist yet; run `walferry migrate`")
        }
        Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => {
            ("not_permitted", "walferry's role may not read the queue; run `walferry check`")
        }
        _ => ("database_unavailable", "PostgreSQL does not answer; try again"),
    };
    debug!(error = &error as &dyn std::error::Error, "no answer from PostgreSQL for the API");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
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
        let expected = r#"{"total":7,"pending":1,"processing":2,"completed":3,"failed":1,"stuck":0,"avgProcessingTime":1250,"lastProcessedAt":null}"#;
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
