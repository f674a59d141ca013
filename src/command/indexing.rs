//! `walferry start` and `stop`. A running instance notices within a second.
//!
//! Not here: the operation (`admin::jobs::operations`).

use crate::admin::audited::Operator;
use crate::admin::jobs::operations;
use crate::storage::QueueError;

/// Starts or stops indexing.
pub(super) async fn set(
    operator: &Operator,
    slot: &str,
    on: bool,
    reason: Option<String>,
) -> Result<String, QueueError> {
    operations::set_indexing(operator, slot, on, reason).await?;
    Ok(match on {
        true => "indexing goes on".to_owned(),
        false => "indexing halts; changes are captured as pending jobs meanwhile".to_owned(),
    })
}
