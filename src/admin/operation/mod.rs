//! Operations that go on beside the stream: asking for them, and steering them.
//!
//! They are queued in the database, and the running process does them. What is asked for is checked
//! before anything is queued.
//!
//! Not here: doing them (`engine::supervisor::operation`).

pub mod view;

use serde_json::json;

use crate::admin::audited::{AffectedRows, Operator};
use crate::admin::record::error::RecordError;
use crate::admin::record::key::table_id;
use crate::change::TableId;
use crate::engine::document::definition::Definition;
use crate::engine::document::shape::TableShape;
use crate::engine::feed::inspect;
use crate::engine::supervisor::operation::keys;
use crate::storage::QueueError;
use crate::storage::audit::AuditRequest;
use crate::storage::operation::{self, NewOperation, OperationKind, Steer};

/// Keys that one backfill may name: they are stored with it.
pub const KEYS_MAX: usize = 100_000;
/// The beginning of a condition in the audit log.
const CONDITION_SHOWN: usize = 200;

/// The rows whose documents are to be rendered anew.
#[derive(Clone, Debug, Default)]
pub struct BackfillRequest {
    /// `None`: every table that has documents.
    pub table: Option<String>,
    /// SQL on the table's columns.
    pub condition: Option<String>,
    /// Keys as documents are named by them.
    pub keys: Option<Vec<String>>,
    /// Rows in a second.
    pub rate_max: Option<u32>,
}

/// The documents that are to be compared with their rows.
#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// A table or an index; `None`: every table that has documents.
    pub name: Option<String>,
    /// About so many rows and documents of each, drawn by chance; `None`: all.
    pub sample: Option<u32>,
    /// What differs is rendered anew.
    pub is_repair: bool,
}

/// The numbers of the operations that were queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedOperations(pub Vec<i64>);

impl AffectedRows for QueuedOperations {
    fn affected_rows(&self) -> u64 {
        self.0.len() as u64
    }
}

/// An operation was not queued, or not steered.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("no document shows a row of table {table} as its own; name one of {known}")]
    NoDocuments { table: String, known: String },
    #[error("no table and no index is called {name}; name one of {known}")]
    NoSuchName { name: String, known: String },
    #[error("a condition and keys are those of one table; name the table")]
    NoTable,
    #[error("PostgreSQL does not take the condition on table {table}; correct it")]
    Condition {
        table: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error(
        "{key:?} is not a key of table {table}; write one key in each line, the values of a \
        composite key with | between them"
    )]
    Key { table: String, key: String },
    #[error("PostgreSQL does not take the keys of table {table}; correct them")]
    Keys {
        table: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("could not read keys of table {table}")]
    Unread {
        table: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error(
        "{found} keys are more than the {KEYS_MAX} that one backfill may name; divide them, or \
        give a condition"
    )]
    TooManyKeys { found: usize },
    #[error("there is no operation {0}; `walferry operations` lists them")]
    Unknown(i64),
    #[error("operation {id} is {state}, so there is nothing to {what}")]
    State { id: i64, state: String, what: &'static str },
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Queues a backfill of each table that is meant.
///
/// # Errors
/// [`OperationError`]; then nothing was queued.
pub async fn backfill(
    operator: &Operator,
    definition: &Definition,
    slot: &str,
    request: BackfillRequest,
) -> Result<QueuedOperations, OperationError> {
    let tables = tables(definition, &request)?;
    let (shapes, _) =
        inspect::shapes(&operator.client, definition).await.map_err(RecordError::from)?;
    let mut all = Vec::new();
    for table in tables {
        all.push(checked(operator, shapes.of(table), &request).await?);
    }
    let target = target(&all);
    let request = AuditRequest { action: "backfill", target: Some(target), reason: None };
    queue(operator, slot, request, &all).await
}

/// Queues a verification of each table that is meant.
///
/// # Errors
/// [`OperationError`]; then nothing was queued.
pub async fn verify(
    operator: &Operator,
    definition: &Definition,
    slot: &str,
    request: VerifyRequest,
) -> Result<QueuedOperations, OperationError> {
    let VerifyRequest { name, sample, is_repair } = request;
    let meant = verified(definition, name.as_deref())?;
    let (shapes, _) =
        inspect::shapes(&operator.client, definition).await.map_err(RecordError::from)?;
    let mut all = Vec::new();
    for (table, index) in meant {
        let shape = shapes.of(table);
        let label = shape.label();
        let failed = |source| OperationError::Unread { table: label.clone(), source };
        let estimated = keys::estimate(&operator.client, shape, None).await;
        let mut row_estimate = estimated.map_err(failed)?;
        let mut drawn = None;
        if let Some(size) = sample {
            let keys = keys::sample(&operator.client, shape, size, row_estimate).await;
            let keys = keys.map_err(failed)?;
            row_estimate = keys.len() as u64;
            drawn = Some(json!(keys).to_string());
        }
        all.push(NewOperation {
            kind: OperationKind::Verify,
            table: label,
            condition: None,
            keys: drawn,
            rate_max: None,
            row_estimate,
            index,
            is_repair,
        });
    }
    let mut target = name.unwrap_or_else(|| "all tables".to_owned());
    if let Some(size) = sample {
        target.push_str(&format!(", a sample of {size}"));
    }
    if is_repair {
        target.push_str(", repaired");
    }
    let request = AuditRequest { action: "verify", target: Some(target), reason: None };
    queue(operator, slot, request, &all).await
}

async fn queue(
    operator: &Operator,
    slot: &str,
    request: AuditRequest,
    all: &[NewOperation],
) -> Result<QueuedOperations, OperationError> {
    let queue = async {
        let ids = operation::queue(&operator.client, slot, all, operator.name()).await?;
        Ok(QueuedOperations(ids))
    };
    Ok(operator.audited(request, queue).await?)
}

/// The tables that a verification is of, each with the index if it is of one only. A name that a
/// table and an index have is the table's, whose documents are in that index and others.
fn verified(
    definition: &Definition,
    name: Option<&str>,
) -> Result<Vec<(TableId, Option<String>)>, OperationError> {
    let all = BackfillRequest::default();
    let Some(name) = name else {
        return Ok(tables(definition, &all)?.into_iter().map(|table| (table, None)).collect());
    };
    if table_id(definition, name).is_ok() {
        let request = BackfillRequest { table: Some(name.to_owned()), ..all };
        return Ok(tables(definition, &request)?.into_iter().map(|table| (table, None)).collect());
    }
    let Some(index) = definition.indices.iter().find(|index| index.name == name) else {
        let known = tables(definition, &all)?.into_iter();
        let known = known.map(|table| definition.tables[usize::from(table.0)].name.clone());
        let indices = definition.indices.iter().map(|index| index.name.clone());
        let mut known: Vec<String> = known.chain(indices).collect();
        known.sort_unstable();
        known.dedup();
        return Err(OperationError::NoSuchName { name: name.to_owned(), known: known.join(", ") });
    };
    let mut meant: Vec<TableId> = index.sources.iter().map(|source| source.table).collect();
    meant.sort_unstable();
    meant.dedup();
    Ok(meant.into_iter().map(|table| (table, Some(index.name.clone()))).collect())
}

/// The tables that are meant.
fn tables(
    definition: &Definition,
    request: &BackfillRequest,
) -> Result<Vec<TableId>, OperationError> {
    let all = (0_u16..).zip(&definition.tables).map(|(number, _)| TableId(number));
    let shown: Vec<TableId> =
        all.filter(|table| !definition.sources_of(*table).is_empty()).collect();
    let Some(name) = &request.table else {
        let is_whole = request.condition.is_none() && request.keys.is_none();
        return if is_whole { Ok(shown) } else { Err(OperationError::NoTable) };
    };
    let table = table_id(definition, name)?;
    if shown.contains(&table) {
        return Ok(vec![table]);
    }
    let name_of = |table: &TableId| definition.tables[usize::from(table.0)].name.clone();
    let known: Vec<String> = shown.iter().map(name_of).collect();
    Err(OperationError::NoDocuments { table: name.clone(), known: known.join(", ") })
}

/// The backfill of one table, once PostgreSQL has taken its condition and its keys.
async fn checked(
    operator: &Operator,
    shape: &TableShape,
    request: &BackfillRequest,
) -> Result<NewOperation, OperationError> {
    let table = shape.label();
    let new = NewOperation {
        kind: OperationKind::Backfill,
        table: table.clone(),
        condition: None,
        keys: None,
        rate_max: request.rate_max,
        row_estimate: 0,
        index: None,
        is_repair: false,
    };
    let condition = request.condition.clone();
    let Some(names) = &request.keys else {
        let estimated = keys::estimate(&operator.client, shape, condition.as_deref()).await;
        let row_estimate =
            estimated.map_err(|source| OperationError::Condition { table, source })?;
        return Ok(NewOperation { condition, row_estimate, ..new });
    };
    if names.len() > KEYS_MAX {
        return Err(OperationError::TooManyKeys { found: names.len() });
    }
    let mut given = Vec::with_capacity(names.len());
    for name in names {
        let key = shape.split_key(name);
        if key.len() != shape.key.len() {
            return Err(OperationError::Key { table, key: name.clone() });
        }
        given.push(key);
    }
    let given = keys::canonical(&operator.client, shape, &given).await;
    let given = given.map_err(|source| OperationError::Keys { table, source })?;
    let row_estimate = given.len() as u64;
    let keys = Some(json!(given).to_string());
    Ok(NewOperation { keys, row_estimate, ..new })
}

/// What the audit log says of backfills.
fn target(all: &[NewOperation]) -> String {
    let one = |new: &NewOperation| match (&new.condition, &new.keys) {
        (Some(condition), _) => {
            let shown: String = condition.chars().take(CONDITION_SHOWN).collect();
            format!("{} where {shown}", new.table)
        }
        (None, Some(_)) => format!("{} ({} keys)", new.table, new.row_estimate),
        (None, None) => new.table.clone(),
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Cancels, pauses or resumes an operation. The running process obeys within a second.
///
/// # Errors
/// [`OperationError`].
pub async fn steer(
    operator: &Operator,
    slot: &str,
    id: i64,
    steer: Steer,
) -> Result<(), OperationError> {
    let what = steer.as_str();
    let found = operation::list(&operator.client, slot, Some(id), 1).await?;
    let before = found.into_iter().next().ok_or(OperationError::Unknown(id))?;
    let request =
        AuditRequest { action: what, target: Some(format!("operation {id}")), reason: None };
    let work = async { Ok(Steered(operation::steer(&operator.client, slot, id, steer).await?)) };
    match operator.audited(request, work).await? {
        Steered(true) => Ok(()),
        Steered(false) => Err(OperationError::State { id, state: before.state, what }),
    }
}

/// Whether an operation has changed its state.
struct Steered(bool);

impl AffectedRows for Steered {
    fn affected_rows(&self) -> u64 {
        u64::from(self.0)
    }
}
