//! What a client may know of a failure of the database: a code, a sentence, and nothing of the
//! server's text.

use axum::http::StatusCode;
use tokio_postgres::error::SqlState;
use tracing::debug;

use super::problem::{Invalid, Problem};
use crate::admin::jobs::operations::ChangeError;
use crate::admin::operation::OperationError;
use crate::admin::pool::PoolError;
use crate::admin::record::error::RecordError;
use crate::engine::feed::inspect::InspectError;
use crate::engine::feed::render::read::ReadError;
use crate::postgres::error::sentence;
use crate::storage::QueueError;

impl From<&PoolError> for Problem {
    fn from(error: &PoolError) -> Self {
        let (code, detail) = match error {
            PoolError::Query(source) | PoolError::Queue(QueueError::Database { source, .. }) => {
                of_state(source.code())
            }
            PoolError::Busy => ("busy", "more was asked for than PostgreSQL is asked at once"),
            _ => of_state(None),
        };
        log(error);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }
}

impl From<PoolError> for Problem {
    fn from(error: PoolError) -> Self {
        Self::from(&error)
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        Self::from(PoolError::from(error))
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Queue(error) => Self::from(error),
            ChangeError::CountChanged { matched, .. } => {
                let detail = error.to_string();
                Self::new(StatusCode::CONFLICT, "count_changed", detail).with("matched", matched)
            }
        }
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        match &error {
            RecordError::Pool(error) => Self::from(error),
            RecordError::Inspect(error) => of_inspection(error),
            RecordError::Read(error) => of_read(error),
            RecordError::UnknownTable { known, .. } => {
                let detail = format!("there is no such table; there are {known}");
                Self::new(StatusCode::NOT_FOUND, "no_such_table", detail)
            }
            RecordError::UnknownKey { .. } => {
                Self::new(StatusCode::CONFLICT, "unknown_key", error.to_string())
            }
            RecordError::InvalidKey { key, expected, .. } => {
                let reason = format!("is {key:?}");
                Self::invalid(vec![Invalid::new("record_id", reason, expected)])
            }
        }
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let detail = error.to_string();
        let of = |field, allowed| Self::invalid(vec![Invalid::new(field, detail.clone(), allowed)]);
        match error {
            OperationError::Record(error) => Self::from(error),
            OperationError::Queue(error) => Self::from(error),
            OperationError::Unknown(_) => {
                Self::new(StatusCode::NOT_FOUND, "no_such_operation", detail)
            }
            OperationError::State { .. } => {
                Self::new(StatusCode::CONFLICT, "operation_state", detail)
            }
            OperationError::NoDocuments { .. } | OperationError::NoSuchName { .. } => {
                Self::new(StatusCode::NOT_FOUND, "no_such_table", detail)
            }
            OperationError::NoTable => of("table", "the table's name"),
            OperationError::Condition { source, .. } => {
                log(&source);
                of("where", "SQL on the table's columns")
            }
            OperationError::Keys { source, .. } => {
                log(&source);
                of("keys", "keys as documents are named by them")
            }
            OperationError::Key { .. } | OperationError::TooManyKeys { .. } => {
                of("keys", "keys as documents are named by them")
            }
            OperationError::Unread { source, .. } => {
                log(&source);
                let (code, detail) = of_state(source.code());
                Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            }
        }
    }
}

fn of_inspection(error: &InspectError) -> Problem {
    log(error);
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        InspectError::Missing { .. } => Problem::new(status, "table_missing", error.to_string()),
        InspectError::Catalog(source) => {
            let (code, detail) = of_state(source.code());
            Problem::new(status, code, detail)
        }
    }
}

fn of_read(error: &ReadError) -> Problem {
    log(error);
    match error {
        ReadError::Rows { source, .. } | ReadError::Open(source) => {
            let (code, detail) = match source.code() {
                // The reads are of the definition's tables, not of the queue.
                Some(state) if *state == SqlState::UNDEFINED_TABLE => (
                    "table_missing",
                    "a table of the definition does not exist; create it or take it out of the \
                     definition",
                ),
                state => of_state(state),
            };
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
        }
        ReadError::Lacking(error) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "column_missing", error.to_string())
        }
        ReadError::Lock(_) => {
            let (code, detail) = of_state(Some(&SqlState::LOCK_NOT_AVAILABLE));
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
        }
        ReadError::Unreadable(_) => Problem::new(
            StatusCode::BAD_GATEWAY,
            "database_unreadable",
            "PostgreSQL printed something else where a snapshot or an LSN was expected; this is a \
             defect, please report it",
        ),
    }
}

fn log(error: &(dyn std::error::Error + 'static)) {
    debug!(
        event = "database_unavailable",
        error = sentence(error),
        "no answer from PostgreSQL for the API"
    );
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
    use super::*;

    #[track_caller]
    fn check(error: impl Into<RecordError>, status: u16, code: &str, words: &str) {
        let problem = Problem::from(error.into());
        assert_eq!(problem.status().as_u16(), status);
        assert_eq!(problem.code(), code);
        assert!(problem.sentence().contains(words), "{}", problem.sentence());
    }

    #[test]
    fn each_failure_of_a_record_is_named() {
        let missing = InspectError::Missing { table: "public.listings".to_owned() };
        check(missing, 503, "table_missing", "table public.listings does not exist");
        check(ReadError::Unreadable("x".to_owned()), 502, "database_unreadable", "a snapshot");
        check(PoolError::Timeout, 503, "database_unavailable", "does not answer");
        check(PoolError::Busy, 503, "busy", "at once");
        let unknown = RecordError::UnknownTable { table: "a".into(), known: "b, c".into() };
        check(unknown, 404, "no_such_table", "b, c");
        let record_id = uuid::Uuid::nil();
        let unknown = RecordError::UnknownKey { table: "countries".into(), record_id };
        check(unknown, 409, "unknown_key", "countries");
    }

    #[test]
    fn the_server_s_text_is_not_repeated() {
        let problem = Problem::from(RecordError::from(ReadError::Unreadable("canary".into())));
        assert!(!format!("{problem:?}").contains("canary"), "{problem:?}");
    }
}
