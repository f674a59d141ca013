//! `walferry start`, `stop`, `clear`, `resync`, `audit`: the API's operations from a terminal.
//!
//! They work on the database, so they need no running instance; one that runs notices within a
//! second. Each leaves its line in the audit log.
//!
//! Not here: the statements (`admin::jobs::operations`), retrying and discarding (`jobs`).

use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use super::jobs::{columns, trailed};
use crate::admin::figures::sample;
use crate::admin::jobs::operations;
use crate::storage::QueueError;
use crate::storage::audit;
use crate::storage::audit::AuditRequest;
use crate::storage::control;

/// Nobody waits longer at a terminal for a word.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    #[error("there is no table {table} in the definition; there are {known}")]
    NoTable { table: String, known: String },
    #[error(
        "records of {table} have keys that are not uuids; re-sync them through the API, which finds the key"
    )]
    NotUuid { table: String },
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl OperateError {
    /// The process' exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoTable { .. } | Self::NotUuid { .. } => 2,
            Self::Queue(_) => 3,
        }
    }
}

/// Lets indexing go on, or halts it.
pub(super) async fn choose(client: &Client, slot: &str, on: bool) -> Result<String, OperateError> {
    let action = if on { "start" } else { "stop" };
    let asked = AuditRequest { action, ..AuditRequest::default() };
    trailed(client, &asked, async {
        control::set_indexing(client, slot, on).await?;
        Ok(((), 0))
    })
    .await?;
    Ok(match on {
        true => "indexing goes on".to_owned(),
        false => "indexing halts; changes are captured as pending jobs meanwhile".to_owned(),
    })
}

/// Deletes finished jobs, or says how many that would be.
pub(super) async fn clear(client: &Client, yes: bool) -> Result<String, OperateError> {
    let counts = sample::counts(client).await?;
    let unfinished = counts.pending + counts.processing;
    if !yes {
        return Ok(format!(
            "{} completed and {} failed jobs would be deleted, {unfinished} unfinished ones stay; \
             nothing was changed, add --yes to do it",
            counts.completed, counts.failed
        ));
    }
    let asked = AuditRequest { action: "clear", ..AuditRequest::default() };
    let done = trailed(client, &asked, async {
        let done = operations::clear(client, TIME_MAX).await?;
        Ok((done, done.jobs))
    });
    let done = done.await?;
    let more = if done.more { "; there are more, run this again" } else { "" };
    Ok(format!("{} finished jobs were deleted{more}", done.jobs))
}

/// Asks for a record's documents to be rendered anew.
pub(super) async fn resync(
    client: &Client,
    tables: &[String],
    table: &str,
    record_id: Uuid,
) -> Result<String, OperateError> {
    const KEY: &str = "select count(*) = 1 and bool_and(a.atttypid = 'uuid'::regtype)
        from pg_catalog.pg_index i
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        join pg_catalog.pg_class c on c.oid = i.indrelid
        where i.indisprimary and c.relname = $1";
    if !tables.iter().any(|known| known == table) {
        let known = tables.join(", ");
        return Err(OperateError::NoTable { table: table.to_owned(), known });
    }
    let row = client.query_one(KEY, &[&table]).await;
    let uuid = row.and_then(|row| row.try_get::<_, Option<bool>>(0));
    if uuid.map_err(crate::storage::doing("read the table's key"))? != Some(true) {
        return Err(OperateError::NotUuid { table: table.to_owned() });
    }
    let asked = AuditRequest {
        action: "resync",
        target: Some(format!("{table} {record_id}")),
        reason: None,
    };
    let id = trailed(client, &asked, async {
        Ok((operations::resync(client, table, record_id, "{}").await?, 1))
    });
    Ok(format!("job {} renders the record's documents anew from its row", id.await?))
}

/// The newest lines of the audit log.
pub(super) async fn audit(
    client: &Client,
    limit: u32,
    as_json: bool,
) -> Result<String, OperateError> {
    let (entries, _) = audit::entries(client, (0, i64::from(limit))).await?;
    if as_json {
        let lines: Vec<_> = entries
            .iter()
            .map(|entry| {
                json!({
                    "id": entry.id, "at": entry.at, "actor": entry.actor.name,
                    "role": entry.actor.role, "address": entry.actor.address,
                    "request_id": entry.actor.request_id, "action": entry.action,
                    "target": entry.target, "affected": entry.affected,
                    "result": entry.result, "reason": entry.reason,
                })
            })
            .collect();
        return Ok(serde_json::Value::from(lines).to_string());
    }
    if entries.is_empty() {
        return Ok("nobody has done anything yet".to_owned());
    }
    let head = ["AT", "ACTOR", "ROLE", "ACTION", "TARGET", "ROWS", "RESULT", "REASON"];
    let rows = entries.into_iter().map(|entry| {
        [
            entry.at,
            entry.actor.name,
            entry.actor.role,
            entry.action,
            entry.target.unwrap_or_default(),
            entry.affected.map(|n| n.to_string()).unwrap_or_default(),
            entry.result,
            entry.reason.unwrap_or_default().replace('\n', " "),
        ]
    });
    Ok(columns(head, rows))
}
