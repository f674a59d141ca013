//! The keys of an operation's rows, chunk by chunk in the order of the key.
//!
//! They are read on a session of its own, read-only and with the rights of walferry's role. A
//! condition that fails or takes long concerns the operation only.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::OperationFault;
use crate::engine::document::shape::TableShape;
use crate::postgres::quote_identifier as quote;
use crate::storage::operation::BegunBackfill;

/// The server notices within a second that an operation was cancelled, and ends its query.
const SETTINGS: &str = "set client_connection_check_interval = '1s'";

/// Keys of one chunk; none after the last one.
pub(super) struct Keys {
    pub(super) keys: Vec<Vec<String>>,
    /// The last of them, as a JSON array.
    pub(super) last_key: Option<String>,
}

/// Where the keys come from.
enum KeyOrigin {
    /// The rows of the table that the condition holds for.
    Table { first: Statement, following: Statement, after: Option<Vec<String>> },
    /// A list, of which so many are done.
    List { keys: Vec<Vec<String>>, done: usize },
}

/// The keys of one operation.
pub(super) struct KeySource {
    client: Client,
    parts: usize,
    chunk_rows: usize,
    origin: KeyOrigin,
}

impl KeySource {
    /// The keys that follow those that are done.
    pub(super) async fn open(
        client: Client,
        shape: &TableShape,
        begun: &BegunBackfill,
        chunk_rows: usize,
    ) -> Result<Self, OperationFault> {
        client.batch_execute(SETTINGS).await?;
        let origin = match &begun.keys {
            Some(keys) => KeyOrigin::List {
                keys: keys.clone(),
                done: usize::try_from(begun.row_count).unwrap_or(usize::MAX),
            },
            None => {
                let condition = begun.condition.as_deref();
                KeyOrigin::Table {
                    first: client.prepare(&select(shape, condition, None)).await?,
                    following: client
                        .prepare(&select(shape, condition, Some(shape.key_is_after(2))))
                        .await?,
                    after: begun.last_key.clone(),
                }
            }
        };
        Ok(Self { client, parts: shape.key.len(), chunk_rows, origin })
    }

    /// The next keys.
    pub(super) async fn next(&mut self) -> Result<Keys, OperationFault> {
        let limit = i64::try_from(self.chunk_rows).unwrap_or(i64::MAX);
        let keys: Vec<Vec<String>> = match &mut self.origin {
            KeyOrigin::Table { first, following, after } => {
                let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&limit];
                let statement = match after {
                    Some(parts) => {
                        parameters.extend(parts.iter().map(|part| part as &(dyn ToSql + Sync)));
                        following
                    }
                    None => first,
                };
                let query = async { self.client.query(statement, &parameters).await };
                let rows = read_only(&self.client, query).await?;
                let keys: Vec<Vec<String>> = rows.iter().map(|row| key(row, self.parts)).collect();
                *after = keys.last().cloned();
                keys
            }
            KeyOrigin::List { keys, done } => {
                let rest = keys.get(*done..).unwrap_or_default();
                let chunk = rest[..rest.len().min(self.chunk_rows)].to_vec();
                *done += chunk.len();
                chunk
            }
        };
        let last_key = keys.last().and_then(|key| serde_json::to_string(key).ok());
        Ok(Keys { keys, last_key })
    }
}

fn key(row: &Row, parts: usize) -> Vec<String> {
    (0..parts).map(|part| row.get(part)).collect()
}

/// The texts of a key's columns, as documents are named by them.
fn texts(columns: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> =
        columns.map(|column| format!("pg_catalog.format('%s', {column})")).collect();
    texts.join(", ")
}

/// The next keys of the table. The condition stands on lines of its own, so that a comment at its
/// end hides nothing else.
fn select(shape: &TableShape, condition: Option<&str>, after: Option<String>) -> String {
    let restriction = restriction(after, condition);
    format!(
        "select {} from {} t {restriction} order by {} limit $1",
        texts(shape.key.iter().map(|column| format!("t.{}", quote(&column.name)))),
        shape.own_rows(),
        shape.key_order(),
    )
}

fn restriction(after: Option<String>, condition: Option<&str>) -> String {
    let condition = condition.map(|condition| format!("(\n{condition}\n)"));
    let conditions: Vec<String> = after.into_iter().chain(condition).collect();
    if conditions.is_empty() {
        String::new()
    } else {
        format!("where {}", conditions.join(" and "))
    }
}

/// About how many rows the condition holds for; PostgreSQL reads the condition, and executes nothing.
///
/// # Errors
/// That of PostgreSQL, where the condition is none.
pub async fn estimate(
    client: &Client,
    shape: &TableShape,
    condition: Option<&str>,
) -> Result<u64, tokio_postgres::Error> {
    let restriction = restriction(None, condition);
    let sql = format!("explain select from {} t {restriction}", shape.own_rows());
    let rows = read_only(client, async { client.query(&sql, &[]).await }).await?;
    let plan: &str = rows.first().map_or(Ok(""), |row| row.try_get(0))?;
    let estimate = plan.split_once("rows=").and_then(|(_, rest)| rest.split(' ').next());
    Ok(estimate.and_then(|rows| rows.parse().ok()).unwrap_or(0))
}

/// The given keys as the table would have them: `007` is the number 7.
///
/// # Errors
/// That of PostgreSQL, where a text is no value of a key's column.
pub async fn canonical(
    client: &Client,
    shape: &TableShape,
    keys: &[Vec<String>],
) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let parts = shape.key.len();
    let names = || (1..=parts).map(|number| format!("part{number}"));
    let values = names()
        .zip(&shape.key)
        .map(|(name, column)| format!("given.{name}::{}", column.parameter_type()));
    let arrays: Vec<String> = (1..=parts).map(|number| format!("${number}::text[]")).collect();
    let sql = format!(
        "select {} from unnest({}) as given ({})",
        texts(values),
        arrays.join(", "),
        names().collect::<Vec<_>>().join(", "),
    );
    let column = |part: usize| -> Vec<&str> {
        keys.iter().map(|key| key.get(part).map_or("", String::as_str)).collect()
    };
    let columns: Vec<Vec<&str>> = (0..parts).map(column).collect();
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    let rows = read_only(client, async { client.query(&sql, &parameters).await }).await?;
    Ok(rows.iter().map(|row| key(row, parts)).collect())
}

/// Runs an operator's SQL where it can change nothing: a read-only transaction stays one after its
/// first query, and the rollback undoes what `set_config` has set.
async fn read_only<T>(
    client: &Client,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, tokio_postgres::Error> {
    client.batch_execute("begin read only").await?;
    let result = work.await;
    client.batch_execute("rollback").await?;
    result
}
