//! A re-sync: a job that renders a record's documents anew from its row.

use super::error::RecordError;
use super::key::{RecordKey, RecordName, resolve, table_id};
use crate::admin::audited::{AffectedRows, Operator, PartialFailure};
use crate::engine::document::definition::Definition;
use crate::engine::feed::inspect;
use crate::storage::audit::AuditRequest;
use crate::storage::doing;

/// The job that re-syncs a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResyncJob {
    pub id: i64,
}

impl AffectedRows for ResyncJob {
    fn affected_rows(&self) -> u64 {
        1
    }
}

/// Writes a job for the record, without a position in the stream. A running instance takes it up
/// within a second.
///
/// # Errors
/// [`RecordError`]; then no job was written.
pub async fn resync(
    operator: &Operator,
    definition: &Definition,
    table: &str,
    name: &RecordName,
) -> Result<ResyncJob, RecordError> {
    let id = table_id(definition, table)?;
    let (shapes, _) = inspect::shapes(&operator.client, definition).await?;
    let key = resolve(&operator.client, &shapes, id, name).await?;
    let target = Some(format!("{table} {}", key.record_id));
    let request = AuditRequest { action: "resync", target, reason: None };
    Ok(operator.audited(request, write(operator, table, &key)).await?)
}

async fn write(
    operator: &Operator,
    table: &str,
    key: &RecordKey,
) -> Result<ResyncJob, PartialFailure> {
    const RESYNC: &str = "insert into public.elasticsearch_sync_queue
            (table_name, operation, record_id, change_data)
        values ($1, 'UPDATE', $2, $3::text::jsonb) returning id";
    let data = key.change_data().to_string();
    let row = operator.client.query_one(RESYNC, &[&table, &key.record_id, &data]).await;
    let row = row.map_err(doing("write a job"))?;
    let id = row.try_get("id").map_err(doing("write a job"))?;
    Ok(ResyncJob { id })
}
