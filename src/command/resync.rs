//! `walferry resync`: a record's documents rendered anew from its row.
//!
//! Not here: the operation (`admin::record::resync`).

use crate::admin::audited::Operator;
use crate::admin::record::error::RecordError;
use crate::admin::record::key::RecordName;
use crate::admin::record::resync;
use crate::engine::document::definition::Definition;

/// Asks for a re-sync of the record that `record` names.
pub(super) async fn run(
    operator: &Operator,
    definition: &Definition,
    table: &str,
    record: String,
) -> Result<String, RecordError> {
    let job = resync::resync(operator, definition, table, &RecordName::Text(record)).await?;
    Ok(format!("job {} renders the record's documents anew from its row", job.id))
}
