//! Operations and their entries in the audit log.
//!
//! An operation is written to the audit log before it begins and again when it ends. One that
//! cannot be written is not done. When the process dies, its entry stays `started`.
//!
//! Not here: the operations (`jobs::operations`, `record::resync`), the table (`storage::audit`).

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use tracing::warn;

use crate::storage::audit::{self, Actor, AuditRequest, Outcome};
use crate::storage::{QueueError, doing};

/// Names of operations in the audit log and in metrics. `other` is an attempt that was denied and is
/// none of them.
pub const ACTIONS: [&str; 14] = [
    "retry-failed",
    "clear",
    "start",
    "stop",
    "retry",
    "discard",
    "restore",
    "resync",
    "backfill",
    "verify",
    "cancel",
    "pause",
    "resume",
    "other",
];

/// An operator with a session of their own.
pub struct Operator {
    pub(crate) client: Arc<Client>,
    /// After this time an operation returns what it has done and says that there is more.
    pub(crate) time_max: Duration,
    actor: Actor,
    observer: Box<dyn OperationObserver>,
}

/// Is informed when an operation ends.
pub trait OperationObserver: Send + Sync {
    /// Called once for each operation.
    fn ended(&self, operation: &EndedOperation<'_>);
}

/// An operation that ended, or that could not be written to the audit log and was not done.
#[derive(Debug)]
pub struct EndedOperation<'a> {
    pub actor: &'a Actor,
    pub request: &'a AuditRequest,
    /// Rows that it changed.
    pub affected: u64,
    pub error: Option<&'a QueueError>,
}

/// No observer.
impl OperationObserver for () {
    fn ended(&self, _: &EndedOperation<'_>) {}
}

/// An operation that ended early.
#[derive(Debug)]
pub struct PartialFailure {
    pub error: QueueError,
    /// Rows that it changed by then. They stay changed.
    pub affected: u64,
}

impl From<QueueError> for PartialFailure {
    fn from(error: QueueError) -> Self {
        Self { error, affected: 0 }
    }
}

/// The result of an operation, which knows how many rows were changed.
pub(crate) trait AffectedRows {
    fn affected_rows(&self) -> u64;
}

impl AffectedRows for () {
    fn affected_rows(&self) -> u64 {
        0
    }
}

impl Operator {
    /// An operator with a name that is already known.
    pub fn new(
        client: Arc<Client>,
        actor: Actor,
        time_max: Duration,
        observer: Box<dyn OperationObserver>,
    ) -> Self {
        Self { client, time_max, actor, observer }
    }

    /// An operator at a terminal. The audit log names the role that the session belongs to.
    ///
    /// # Errors
    /// [`QueueError::Database`].
    pub async fn at_terminal(client: Client, time_max: Duration) -> Result<Self, QueueError> {
        let row = client.query_one("select current_user::text as name", &[]).await;
        let name = row.and_then(|row| row.try_get("name")).map_err(doing("ask who we are"))?;
        let actor = Actor { name, role: "terminal".to_owned(), address: None, request_id: None };
        Ok(Self::new(Arc::new(client), actor, time_max, Box::new(())))
    }

    /// The session that operations run on.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Who it is.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.actor.name
    }

    /// Runs `work` between its two entries in the audit log.
    ///
    /// # Errors
    /// Those of `work`, and [`QueueError::Database`] where the operation could not be written to
    /// the audit log and was not begun.
    pub(crate) async fn audited<T: AffectedRows>(
        &self,
        request: AuditRequest,
        work: impl Future<Output = Result<T, PartialFailure>>,
    ) -> Result<T, QueueError> {
        let operation = AuditedOperation::begin(self, request).await?;
        let result = work.await;
        operation.end(result).await
    }
}

/// An operation that is under way and in the audit log as `started`.
struct AuditedOperation<'a> {
    operator: &'a Operator,
    id: i64,
    request: AuditRequest,
}

impl<'a> AuditedOperation<'a> {
    async fn begin(operator: &'a Operator, request: AuditRequest) -> Result<Self, QueueError> {
        let begun =
            audit::begin(&operator.client, &operator.actor, &request, Outcome::Started).await;
        match begun {
            Ok(id) => Ok(Self { operator, id, request }),
            Err(error) => {
                operator.observer.ended(&EndedOperation {
                    actor: &operator.actor,
                    request: &request,
                    affected: 0,
                    error: Some(&error),
                });
                Err(error)
            }
        }
    }

    async fn end<T: AffectedRows>(
        self,
        result: Result<T, PartialFailure>,
    ) -> Result<T, QueueError> {
        let affected = match &result {
            Ok(done) => done.affected_rows(),
            Err(failure) => failure.affected,
        };
        let error = result.as_ref().err().map(|failure| &failure.error);
        self.operator.observer.ended(&EndedOperation {
            actor: &self.operator.actor,
            request: &self.request,
            affected,
            error,
        });
        self.write_end(affected, error).await;
        result.map_err(|failure| failure.error)
    }

    /// The operation is over and its result counts, so a failure to write it is only logged.
    async fn write_end(&self, affected: u64, error: Option<&QueueError>) {
        let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Done };
        let reason = error.map(|error| crate::postgres::error::sentence(error));
        let client = &self.operator.client;
        let written = audit::end(client, self.id, outcome, affected, reason.as_deref()).await;
        if let Err(error) = written {
            warn!(
                event = "audit_not_written",
                error = %error,
                action = self.request.action,
                request_id = self.operator.actor.request_id,
                "the end of an operation was not written down"
            );
        }
    }
}
