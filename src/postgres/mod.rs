//! Sessions with PostgreSQL: connecting, TLS, and what an error means.
//!
//! Every session, the replication one included, starts with [`SETTINGS`], so that no setting of
//! the server, the database or the role changes how a value prints or which rows are seen.
//!
//! Not here: SQL of any stage, and the replication protocol (`engine::wal::connection`).

pub mod catalog;
pub mod error;
mod session;
mod tls;

pub use error::{Disposition, Recovery, ServerError};
pub use session::{Closed, ConnectError, Session, connect};
pub use tls::{TlsError, client_config, end_point_hash};

/// What every session sets for itself, as start-up `options`.
///
/// Values print in one form (`to_jsonb` depends on the time zone). With `row_security` off, a
/// role that row-level security would filter gets an error, never silently zero rows. Names in
/// our SQL are qualified, so nobody's schema can stand in for the catalog.
pub const SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "ISO"),
    ("timezone", "UTC"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("row_security", "off"),
    ("synchronous_commit", "on"),
    ("search_path", "pg_catalog"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// The start-up parameter `options`: the operator's own first, then [`SETTINGS`], which win.
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
        options.push_str(value);
    }
    options
}

/// A name as SQL takes it, whatever is in it: `a"b` becomes `"a""b"`.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name`, each quoted.
#[must_use]
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_is_in_them() {
        assert_eq!(quote_identifier("a\"b; drop"), "\"a\"\"b; drop\"");
        assert_eq!(quote_qualified("s", "T t"), "\"s\".\"T t\"");
    }

    #[test]
    fn our_settings_come_after_the_operators() {
        let options = startup_options(Some("-c timezone=Asia/Tokyo"));
        assert!(options.starts_with("-c timezone=Asia/Tokyo -c datestyle=ISO -c timezone=UTC"));
        assert!(startup_options(None).starts_with("-c datestyle=ISO"));
    }
}
