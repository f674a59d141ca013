//! The audit log as people see it.
//!
//! Not here: entries being written (`audited`).

use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::Client;

use super::page::Page;
use crate::storage::QueueError;
use crate::storage::audit::{self, AuditFilter, Entry};

/// An operation, done or denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Line")]
pub struct AuditLine {
    pub id: i64,
    pub at: String,
    pub actor: String,
    pub role: String,
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub action: String,
    pub target: Option<String>,
    pub affected: Option<i64>,
    /// `started`, `done`, `denied` or `failed`. What stays `started` died half-way.
    pub result: String,
    pub reason: Option<String>,
}

/// Lines of one page, and how many there are on all pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    pub lines: Vec<AuditLine>,
    pub total: i64,
}

/// One page of the lines that match, the newest first.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn page(
    client: &Client,
    filter: &AuditFilter,
    page: Page,
) -> Result<AuditPage, QueueError> {
    let (entries, total) = audit::entries(client, filter, page.offset, page.limit).await?;
    Ok(AuditPage { lines: entries.into_iter().map(AuditLine::from).collect(), total })
}

impl From<Entry> for AuditLine {
    fn from(entry: Entry) -> Self {
        let Entry { id, at, actor, action, target, affected, result, reason } = entry;
        Self {
            id,
            at,
            actor: actor.name,
            role: actor.role,
            address: actor.address,
            request_id: actor.request_id,
            action,
            target,
            affected,
            result,
            reason,
        }
    }
}
