//! Sessions with PostgreSQL: connections, TLS, errors, locks and the system catalogs.
//!
//! Every session, the replication connection included, starts with [`SETTINGS`]. Therefore no
//! setting of the server, the database or the role changes the text of a value or the rows that
//! are visible.
//!
//! Not here: the SQL of the stages, and the replication protocol (`engine::wal::connection`).

pub mod catalog;
pub mod error;
pub mod host;
pub mod lock;
mod session;
mod tls;

pub use error::{Disposition, Recovery, ServerError};
pub use session::{Closed, ConnectError, ReadOnly, Session, connect};
pub use tls::{TlsError, client_config, end_point_hash};

/// The run-time parameters that every session sets at its start.
///
/// The formatting parameters determine the text of values (`to_jsonb` depends on the time zone).
/// With `row_security` off, PostgreSQL raises an error instead of filtering rows by a policy. The
/// `search_path` excludes schemas that could shadow the catalog; all other names in SQL are
/// qualified. The limits of time are those of walferry itself, which sets one where it wants one, and
/// every transaction is made for `read committed`. `default_transaction_read_only` is not set: it
/// may stand for a full disk, and is named instead.
pub const SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "ISO,MDY"),
    ("timezone", "UTC"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("row_security", "off"),
    ("synchronous_commit", "on"),
    ("search_path", "pg_catalog"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("standard_conforming_strings", "on"),
    ("client_min_messages", "notice"),
];

/// The start-up parameter `options` (protocol section "StartupMessage"): the operator's own
/// options, followed by [`SETTINGS`], which take precedence.
#[must_use]
pub fn startup_options(operator: Option<&str>) -> String {
    let mut options = operator.unwrap_or_default().to_owned();
    for (name, value) in SETTINGS {
        if !options.is_empty() {
            options.push(' ');
        }
        options.push_str("-c ");
        options.push_str(name);
        options.push('=');
        // A space separates options, unless a backslash precedes it.
        options.push_str(&value.replace(' ', "\\ "));
    }
    options
}

/// A quoted identifier, as `quote_ident` returns it for any name that needs quotes: `a"b` becomes
/// `"a""b"`.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A schema-qualified name, both parts quoted.
#[must_use]
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote_identifier("a\"b; drop"), "\"a\"\"b; drop\"");
        assert_eq!(quote_qualified("s", "T t"), "\"s\".\"T t\"");
    }

    #[test]
    fn the_settings_follow_the_options_of_the_operator() {
        let options = startup_options(Some("-c timezone=Asia/Tokyo"));
        assert!(options.starts_with("-c timezone=Asia/Tokyo -c datestyle=ISO,MDY -c timezone=UTC"));
        assert!(startup_options(None).starts_with("-c datestyle=ISO,MDY"));
        assert!(
            startup_options(None).contains(" -c default_transaction_isolation=read\\ committed")
        );
    }
}
