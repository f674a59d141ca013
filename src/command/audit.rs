//! `walferry audit`: the newest lines of the audit log.

use tokio_postgres::Client;

use super::output::columns;
use crate::admin::audit::{self, AuditLine};
use crate::admin::page::Page;
use crate::storage::QueueError;
use crate::storage::audit::AuditFilter;

/// The newest lines, as a table or as one JSON array.
pub(super) async fn list(
    client: &Client,
    filter: &AuditFilter,
    limit: u32,
    as_json: bool,
) -> Result<String, QueueError> {
    let first = Page { offset: 0, limit: i64::from(limit) };
    let lines = audit::page(client, filter, first).await?.lines;
    if as_json {
        return Ok(serde_json::json!(lines).to_string());
    }
    if lines.is_empty() && *filter != AuditFilter::default() {
        return Ok("no entry matches".to_owned());
    }
    if lines.is_empty() {
        return Ok("nobody has done anything yet".to_owned());
    }
    Ok(table(lines))
}

fn table(lines: Vec<AuditLine>) -> String {
    let head = ["AT", "ACTOR", "ROLE", "ACTION", "TARGET", "ROWS", "RESULT", "REASON"];
    let rows = lines.into_iter().map(|line| {
        [
            line.at,
            line.actor,
            line.role,
            line.action,
            line.target.unwrap_or_default(),
            line.affected.map(|n| n.to_string()).unwrap_or_default(),
            line.result,
            line.reason.unwrap_or_default().replace('\n', " "),
        ]
    });
    columns(head, rows)
}
