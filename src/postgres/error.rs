//! Errors of PostgreSQL: their sentences, and whether another attempt can succeed.
//!
//! No sentence contains a password, a query parameter or a row value. Of errors about data
//! (SQLSTATE classes 22 and 23), the sentence contains the code only. `DETAIL` is never used.

use std::error::Error;
use std::fmt;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

use crate::telemetry::error_chain;

/// How an error is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The error is transient: the operation is repeated, without a limit.
    Retry,
    /// Another attempt fails in the same way until an operator changes something.
    Operator,
}

/// An error that defines how it is handled. Each module implements this for its own errors;
/// `engine::run` acts on the result.
pub trait Recovery: Error {
    /// How this error is handled.
    fn disposition(&self) -> Disposition;
}

/// The SQLSTATEs that need an operator (PostgreSQL, "PostgreSQL Error Codes").
const PERMANENT: &[&str] = &[
    "28000", // invalid_authorization_specification: pg_hba.conf, no such role, not a replication role
    "28P01", // invalid_password
    "3D000", // invalid_catalog_name: no such database
    "3F000", // invalid_schema_name
    "42501", // insufficient_privilege
    "42703", // undefined_column
    "42704", // undefined_object: no such slot or publication
    "42710", // duplicate_object
    "42883", // undefined_function
    "42P01", // undefined_table
    "42601", // syntax_error
    "55000", // object_not_in_prerequisite_state: slot lost its WAL, wal_level
    "58P01", // undefined_file: a WAL segment that the slot needs is gone
    "0A000", // feature_not_supported
    "22023", // invalid_parameter_value
    "08P01", // protocol_violation: a pooler, or no PostgreSQL at all
];

/// How an error of the server is handled. An unknown SQLSTATE counts as transient, because waiting
/// loses nothing. So does what a standby refuses: it may be promoted, or its name led elsewhere.
fn of_server(code: &str, message: &str) -> Disposition {
    let is_standby = code == "55000" && message.contains("recovery is in progress");
    if PERMANENT.contains(&code) && !is_standby {
        Disposition::Operator
    } else {
        Disposition::Retry
    }
}

impl Recovery for tokio_postgres::Error {
    /// By the SQLSTATE. An error without one is a failure of the connection, which is transient.
    fn disposition(&self) -> Disposition {
        let server = self.as_db_error();
        server.map_or(Disposition::Retry, |e| of_server(e.code().code(), e.message()))
    }
}

/// True if the SQLSTATE reports that the server is shutting down or starting up. The replication
/// connection is closed then, because a fast shutdown waits for it.
#[must_use]
pub fn is_shutdown(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "57P03")
}

/// An error and its causes as one sentence, without repetitions. Errors of the server are printed
/// as [`ServerError`]: without `DETAIL`, and with a remedy if one is known.
#[must_use]
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    error_chain::sentence_with(error, |link| {
        let server = link.downcast_ref::<tokio_postgres::Error>()?.as_db_error()?;
        Some(ServerError::new(server.code().code(), server.message()).to_string())
    })
}

/// An `ErrorResponse` of the server, without its `DETAIL` (protocol section "Error and Notice
/// Message Fields").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    code: String,
    message: String,
}

impl Error for ServerError {}

impl ServerError {
    /// An error with a SQLSTATE and the server's primary message.
    #[must_use]
    pub fn new(code: &str, message: &str) -> Self {
        Self { code: code.to_owned(), message: message.to_owned() }
    }

    /// An error from the fields of an `ErrorResponse`. A missing field is empty.
    #[must_use]
    pub fn from_fields(mut fields: ErrorFields<'_>) -> Self {
        let mut code = String::new();
        let mut message = String::new();
        while let Ok(Some(field)) = fields.next() {
            let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => code = value(),
                b'M' => message = value(),
                _ => {}
            }
        }
        Self { code, message }
    }

    /// The SQLSTATE.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// True if a connection pooler sent the error. Poolers do not support replication.
    #[must_use]
    pub fn is_pooler(&self) -> bool {
        let text = self.message.to_ascii_lowercase();
        text.contains("unsupported startup parameter")
            || text.contains("pgbouncer")
            || text.contains("pooler")
            || text.contains("tenant or user not found")
            || (self.code == "08P01" && text.contains("replication"))
    }

    /// The action that an operator can take, as the end of a sentence.
    fn remedy(&self) -> Option<&'static str> {
        if self.is_pooler() {
            return Some("connect directly to PostgreSQL, not through a pooler");
        }
        let text = &self.message;
        Some(match self.code.as_str() {
            "28P01" => "set the right password in DATABASE_URL",
            "28000" if text.contains("pg_hba.conf") => {
                "allow this host, user and sslmode in pg_hba.conf"
            }
            "28000" => "check the user in DATABASE_URL",
            "3D000" => "check the database in DATABASE_URL",
            "42501" if text.contains("replication") || text.contains("WAL sender") => {
                "give the role the REPLICATION attribute: alter role … replication"
            }
            "42501" if text.contains("row-level security") => {
                "give the role BYPASSRLS, or a policy is applied to what it reads"
            }
            "42501" => "grant the missing privilege; `walferry check` prints the SQL",
            "42704" if text.contains("publication") => "run `walferry migrate` to create it",
            "42704" if text.contains("replication slot") => {
                "run `walferry rebuild` to start over with a new slot and new indices"
            }
            "55000" if text.contains("wal_level") => {
                "set wal_level = logical and restart PostgreSQL"
            }
            "55000" | "58P01" if text.contains("slot") || self.code == "58P01" => {
                "run `walferry rebuild` to start over with a new slot and new indices"
            }
            "53300" if text.contains("for role") => {
                "raise the role's limit: alter role … connection limit …, or close its other sessions"
            }
            "53300" if text.contains("for database") => {
                "raise the database's limit: alter database … connection limit …, or close other \
                 sessions"
            }
            "53300" if text.contains("max_wal_senders") => {
                "raise max_wal_senders and restart PostgreSQL, or end another replication connection"
            }
            "53300" => "raise max_connections or close other sessions",
            "25006" if text.contains("during recovery") => {
                "the server is a standby; waiting until it is promoted, or its name leads to the \
                 primary"
            }
            "25006" => {
                "default_transaction_read_only is on for the role, the database or the server; turn \
                 it off"
            }
            "55000" if text.contains("recovery is in progress") => {
                "the server is a standby; waiting until it is promoted, or its name leads to the \
                 primary"
            }
            "53400" => "raise max_replication_slots or drop an unused slot",
            "55006" => "another session uses it; waiting for it to let go",
            _ => return None,
        })
    }
}

impl Recovery for ServerError {
    fn disposition(&self) -> Disposition {
        if self.is_pooler() { Disposition::Operator } else { of_server(&self.code, &self.message) }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.starts_with("22") && self.code != "22023" || self.code.starts_with("23") {
            return write!(f, "PostgreSQL refuses a value (SQLSTATE {})", self.code);
        }
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        match self.remedy() {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_need_an_operator_are_permanent() {
        for code in ["28P01", "28000", "42704", "55000", "42501", "3D000", "58P01", "08P01"] {
            assert_eq!(of_server(code, ""), Disposition::Operator, "{code}");
        }
        for code in ["57P01", "57P03", "53300", "55006", "08006", "08003", "40001", "XX000"] {
            assert_eq!(of_server(code, ""), Disposition::Retry, "{code}");
        }
    }

    fn check(code: &str, message: &str, expected: &str) {
        assert_eq!(ServerError::new(code, message).to_string(), expected);
    }

    #[test]
    fn a_sentence_ends_in_its_remedy() {
        check(
            "28P01",
            "password authentication failed for user \"w\"",
            "password authentication failed for user \"w\" (SQLSTATE 28P01); set the right \
             password in DATABASE_URL",
        );
        check(
            "08P01",
            "unsupported startup parameter: replication",
            "unsupported startup parameter: replication (SQLSTATE 08P01); connect directly to \
             PostgreSQL, not through a pooler",
        );
        check(
            "55000",
            "can no longer access replication slot \"s\"",
            "can no longer access replication slot \"s\" (SQLSTATE 55000); run `walferry \
             rebuild` to start over with a new slot and new indices",
        );
        check("XX000", "boom", "boom (SQLSTATE XX000)");
    }

    #[test]
    fn the_remedy_names_the_limit_that_is_reached() {
        for (message, expected) in [
            ("too many connections for role \"w\"", "alter role … connection limit"),
            ("too many connections for database \"d\"", "alter database … connection limit"),
            ("sorry, too many clients already", "raise max_connections"),
            (
                "number of requested standby connections exceeds \"max_wal_senders\" (currently 1)",
                "raise max_wal_senders",
            ),
        ] {
            let sentence = ServerError::new("53300", message).to_string();
            assert!(sentence.contains(expected), "{sentence}");
        }
        let read_only = "cannot execute INSERT in a read-only transaction";
        let sentence = ServerError::new("25006", read_only).to_string();
        assert!(sentence.contains("default_transaction_read_only"), "{sentence}");
    }

    #[test]
    fn a_standby_is_waited_for() {
        for (code, message) in [
            ("55000", "recovery is in progress"),
            ("25006", "cannot execute LOCK TABLE during recovery"),
        ] {
            let error = ServerError::new(code, message);
            assert_eq!(error.disposition(), Disposition::Retry, "{error}");
            assert!(error.to_string().contains("a standby"), "{error}");
        }
    }

    #[test]
    fn a_sentence_contains_no_row_value() {
        check(
            "22P02",
            "invalid input syntax for type integer: \"secret\"",
            "PostgreSQL refuses a value (SQLSTATE 22P02)",
        );
    }
}
