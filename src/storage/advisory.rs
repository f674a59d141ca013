//! Which session holds an advisory lock.
//!
//! Any login of the database may take any advisory lock, so a lock that is held says only together
//! with its holder that another walferry works.

use tokio_postgres::{Client, Error};

const HOLDER: &str = include_str!("advisory_holder.sql");

/// The session that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub role: String,
    pub application: String,
    /// Whether its role may run or migrate walferry.
    pub is_ours: bool,
}

/// The holder of the lock with this number in this database, if there is one; a session of
/// walferry's if it has one.
///
/// # Errors
/// PostgreSQL refuses the query.
pub(super) async fn holder(client: &Client, lock: i64) -> Result<Option<Holder>, Error> {
    let Some(row) = client.query_opt(HOLDER, &[&lock]).await? else { return Ok(None) };
    Ok(Some(Holder {
        pid: row.try_get("pid")?,
        role: row.try_get("role")?,
        application: row.try_get("application")?,
        is_ours: row.try_get("is_ours")?,
    }))
}

impl std::fmt::Display for Holder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pid, role, application, .. } = self;
        write!(out, "session {pid} of role {role}, application {application:?}")
    }
}
