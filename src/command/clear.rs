//! `walferry clear`: finished jobs deleted, or how many that would be.
//!
//! Not here: the operation (`admin::jobs::operations`).

use tokio_postgres::Client;

use crate::admin::audited::Operator;
use crate::admin::figures::sample;
use crate::admin::jobs::operations;
use crate::storage::QueueError;

/// Says how many jobs would be deleted.
pub(super) async fn dry_run(client: &Client) -> Result<String, QueueError> {
    let counts = sample::counts(client).await?;
    let unfinished = counts.pending + counts.processing;
    Ok(format!(
        "{} completed and {} failed jobs would be deleted, {unfinished} unfinished ones stay; \
         nothing was changed, add --yes to do it",
        counts.completed, counts.failed
    ))
}

/// Deletes finished jobs.
pub(super) async fn run(operator: &Operator, reason: Option<String>) -> Result<String, QueueError> {
    let finished = operations::clear(operator, reason).await?.finished;
    let more = if finished.more { "; there are more, run this again" } else { "" };
    Ok(format!("{} finished jobs were deleted{more}", finished.jobs))
}
