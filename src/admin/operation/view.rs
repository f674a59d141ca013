//! Operations as people see them: the body of answers, and the lines of `--json`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::storage::operation::OperationRow;
use crate::storage::verification::{DifferenceCounts, DocumentDifference};

/// An operation as people see it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Operation")]
pub struct OperationView {
    pub id: i64,
    /// `backfill` or `verify`.
    pub kind: String,
    /// `schema.name` of the table.
    pub table: String,
    /// Only documents of this index; null for all that show the table.
    pub index: Option<String>,
    /// SQL on the table's columns.
    pub condition: Option<String>,
    /// How many keys were named or drawn.
    pub keys: Option<u64>,
    /// Rows in a second, at most.
    pub rate_max: Option<i32>,
    /// What differs is rendered anew.
    pub repair: bool,
    /// `queued`, `running`, `paused`, `completed`, `failed` or `cancelled`.
    pub state: String,
    pub requested_by: String,
    pub waits_for: Option<String>,
    pub rows_estimated: u64,
    pub rows: u64,
    /// Rows whose documents Elasticsearch refused.
    pub refused: u64,
    /// Documents that were compared with their rows.
    pub documents: u64,
    pub differences: DifferencesView,
    /// The first documents that differ; of one operation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<FindingView>>,
    pub error: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
}

/// How many documents differ from their rows.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Differences")]
pub struct DifferencesView {
    /// The row gives a document that is not there.
    pub missing: u64,
    /// The document is not the one that the row gives.
    pub stale: u64,
    /// No row gives the document.
    pub orphaned: u64,
    /// Of all these, rendered anew and right since.
    pub repaired: u64,
    /// Not compared: they changed at each look, or their rows are too large.
    pub undecided: u64,
}

/// A document that differs from its row.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Finding")]
pub struct FindingView {
    pub index: String,
    pub id: String,
    /// `missing`, `stale` or `orphaned`.
    pub kind: &'static str,
    /// The fields of a stale document that are not as they should be.
    pub fields: Vec<String>,
    pub repaired: bool,
}

impl From<OperationRow> for OperationView {
    fn from(row: OperationRow) -> Self {
        let DifferenceCounts { missing, stale, orphaned, repaired, undecided } = row.counts;
        let findings = row.findings.map(|all| all.into_iter().map(FindingView::from).collect());
        Self {
            id: row.id,
            kind: row.kind,
            table: row.table,
            index: row.index,
            condition: row.condition,
            keys: row.key_count,
            rate_max: row.rate_max,
            repair: row.is_repair,
            state: row.state,
            requested_by: row.requested_by,
            waits_for: row.waits_for,
            rows_estimated: row.row_estimate,
            rows: row.row_count,
            refused: row.refused_count,
            documents: row.document_count,
            differences: DifferencesView { missing, stale, orphaned, repaired, undecided },
            findings,
            error: row.error,
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
        }
    }
}

impl From<DocumentDifference> for FindingView {
    fn from(finding: DocumentDifference) -> Self {
        let DocumentDifference { index, id, kind, fields, repaired, .. } = finding;
        Self { index, id, kind: kind.as_str(), fields, repaired }
    }
}

/// An operation as a JSON object.
#[must_use]
pub fn as_json(row: &OperationRow) -> Value {
    serde_json::to_value(OperationView::from(row.clone())).unwrap_or_default()
}
