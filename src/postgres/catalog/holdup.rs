//! The transactions that a session waits for, of any database of the cluster.
//!
//! Not here: locks on tables (`postgres::lock`).

use tokio_postgres::{Client, Error};

const HOLDERS: &str = include_str!("holdup.sql");

/// What a session waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The process ids; 0 stands for a prepared transaction.
    pub pids: Vec<i32>,
    /// The same for people: process, user, application, database and age.
    pub sentence: String,
}

/// Reads what the session with this process id waits for; `None` if it waits for no transaction.
///
/// # Errors
/// The error of the query.
pub async fn holders(client: &Client, pid: i32) -> Result<Option<Holders>, Error> {
    let rows = client.query(HOLDERS, &[&pid]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut found = Holders::default();
    let mut sentences: Vec<String> = Vec::new();
    for row in rows {
        found.pids.push(row.try_get("pid")?);
        sentences.push(row.try_get("holder")?);
    }
    found.sentence = sentences.join("; ");
    Ok(Some(found))
}
