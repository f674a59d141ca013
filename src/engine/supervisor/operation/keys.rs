//! The keys of an operation's rows, chunk by chunk in the order of the key.
//!
//! They are read on a session of its own, read-only and with the rights of walferry's role. A
//! condition that fails or takes long concerns the operation only.

use std::collections::HashSet;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::OperationFault;
use crate::engine::document::shape::TableShape;
use crate::postgres::quote_identifier as quote;
use crate::storage::operation::BegunOperation;

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
        begun: &BegunOperation,
        chunk_rows: usize,
    ) -> Result<Self, OperationFault> {
        client.batch_execute(SETTINGS).await?;
        let origin = match &begun.keys {
            Some(keys) => KeyOrigin::List {
                keys: keys.clone(),
                done: usize::try_from(begun.progress.row_count).unwrap_or(usize::MAX),
            },
            None => {
                let condition = begun.condition.as_deref();
                KeyOrigin::Table {
                    first: client.prepare(&select(shape, condition, None)).await?,
                    following: client
                        .prepare(&select(shape, condition, Some(shape.key_is_after(2))))
                        .await?,
                    after: begun.progress.last_key.clone(),
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

/// The texts of a key's columns, as documents are named by them: those of `to_jsonb`, which differ
/// from PostgreSQL's own for booleans and timestamps.
fn texts(columns: impl Iterator<Item = String>) -> String {
    let text = |column| format!("pg_catalog.to_jsonb({column}) operator(pg_catalog.#>>) '{{}}'");
    columns.map(text).collect::<Vec<_>>().join(", ")
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
    let columns = columns(keys, parts);
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    let rows = read_only(client, async { client.query(&sql, &parameters).await }).await?;
    Ok(rows.iter().map(|row| key(row, parts)).collect())
}

/// Of keys that Elasticsearch has in ids, those of rows that are not there. A text that is no value
/// of a key's column is among the second ones, by its number: no row can have it as it is written.
pub(super) async fn without_rows(
    client: &Client,
    shape: &TableShape,
    keys: &[Vec<String>],
) -> Result<AbsentKeys, tokio_postgres::Error> {
    let mut absent = AbsentKeys::default();
    let mut open = Vec::new();
    open.extend(Some(0..keys.len()).filter(|all| !all.is_empty()));
    while let Some(range) = open.pop() {
        let part = &keys[range.clone()];
        match canonical(client, shape, part).await {
            Ok(valid) => {
                let present = present(client, shape, part).await?;
                for (number, (key, valid)) in range.zip(part.iter().zip(valid)) {
                    if *key != valid {
                        absent.impossible.push(number);
                    } else if !present.contains(key) {
                        absent.gone.push(number);
                    }
                }
            }
            Err(error) if !is_about_a_value(&error) => return Err(error),
            Err(_) if part.len() == 1 => absent.impossible.push(range.start),
            Err(_) => {
                let middle = range.start + part.len() / 2;
                open.extend([range.start..middle, middle..range.end]);
            }
        }
    }
    Ok(absent)
}

/// The numbers of keys without a row.
#[derive(Debug, Default)]
pub(super) struct AbsentKeys {
    /// There is no such row now.
    pub(super) gone: Vec<usize>,
    /// No row can have such a key.
    pub(super) impossible: Vec<usize>,
}

/// SQLSTATE class 22: a text is no value of a type.
fn is_about_a_value(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("22"))
}

/// The keys that have a row.
async fn present(
    client: &Client,
    shape: &TableShape,
    keys: &[Vec<String>],
) -> Result<HashSet<Vec<String>>, tokio_postgres::Error> {
    let (condition, parts) = shape.key_is_any();
    let sql = format!(
        "select {} from {} t where {condition}",
        texts(shape.key.iter().map(|column| format!("t.{}", quote(&column.name)))),
        shape.own_rows(),
    );
    let columns = columns(keys, parts);
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    let rows = read_only(client, async { client.query(&sql, &parameters).await }).await?;
    Ok(rows.iter().map(|row| key(row, parts)).collect())
}

/// Keys by column.
fn columns(keys: &[Vec<String>], parts: usize) -> Vec<Vec<&str>> {
    let column = |part: usize| -> Vec<&str> {
        keys.iter().map(|key| key.get(part).map_or("", String::as_str)).collect()
    };
    (0..parts).map(column).collect()
}

/// Keys of about this many rows, drawn by chance from the estimated number.
///
/// # Errors
/// That of PostgreSQL.
pub async fn sample(
    client: &Client,
    shape: &TableShape,
    size: u32,
    row_estimate: u64,
) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    // A fifth more than needed, so that chance seldom leaves too few.
    let wanted = u64::from(size) * 120 + 2000;
    let percent = wanted.checked_div(row_estimate).unwrap_or(100).clamp(1, 100);
    let drawn = draw(client, shape, size, percent).await?;
    let is_short = drawn.len() < usize::try_from(size).unwrap_or(usize::MAX);
    // The estimate was too high, as that of a table never analysed.
    if is_short && percent < 100 { draw(client, shape, size, 100).await } else { Ok(drawn) }
}

async fn draw(
    client: &Client,
    shape: &TableShape,
    size: u32,
    percent: u64,
) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
    let sql = format!(
        "select {} from {} t tablesample bernoulli ({percent}) order by pg_catalog.random() limit $1",
        texts(shape.key.iter().map(|column| format!("t.{}", quote(&column.name)))),
        shape.own_rows(),
    );
    let limit = i64::from(size);
    let rows = read_only(client, async { client.query(&sql, &[&limit]).await }).await?;
    Ok(rows.iter().map(|row| key(row, shape.key.len())).collect())
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
