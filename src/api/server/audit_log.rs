//! Operations and denied attempts of the API: who asks, and what the log, the metrics and the audit
//! log say of it.
//!
//! Not here: the operations (`admin`), and how a client proves its identity (`auth`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use tracing::{debug, info, warn};

use super::listener;
use super::problem::Problem;
use super::request_id;
use crate::admin::audited::{ACTIONS, EndedOperation, OperationObserver, Operator};
use crate::api::auth::identity::Identity;
use crate::api::state::ApiState;
use crate::postgres::error::sentence;
use crate::storage::audit::{self, Actor, AuditRequest, Outcome};

/// The database may take this long over one statement of an operation.
const SETTINGS: &str = "set statement_timeout = '5s'; set lock_timeout = '2s'";
/// After this an operation answers with what it has done; a request may take 10 s.
const TIME_MAX: Duration = Duration::from_secs(4);

/// Who asks for an operation.
#[derive(Clone, Debug)]
pub(in crate::api) struct Requester(Actor);

impl<S: Sync> FromRequestParts<S> for Requester {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let identity = parts.extensions.get::<Identity>();
        let detail = "say who you are: send `Authorization: Bearer TOKEN`";
        let identity = identity
            .ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "not_authenticated", detail))?;
        Ok(Self(Actor {
            name: identity.name.clone(),
            role: identity.role.as_str().to_owned(),
            address: Some(listener::address(parts).to_string()),
            request_id: Some(request_id::current()),
        }))
    }
}

/// Runs the operation `action` on a session of its own. An operation that has begun goes on to its
/// end when its client disconnects.
pub(in crate::api) async fn operate<T, E, W>(
    state: &ApiState,
    requester: Requester,
    action: &'static str,
    work: impl FnOnce(Arc<Operator>) -> W + Send + 'static,
) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Send,
    W: Future<Output = Result<T, E>> + Send + 'static,
    Problem: From<E>,
{
    let state = state.clone();
    to_the_end(async move {
        let session = state.pool.own("walferry operate", SETTINGS).await;
        let session = session.inspect_err(|_| count(&state, action, Outcome::Failed))?;
        let client = Arc::clone(&session.client);
        let observer = Box::new(ServerObserver(state.clone()));
        let operator = Operator::new(client, requester.0, TIME_MAX, observer);
        let result = work(Arc::new(operator)).await;
        state.sampler.forget().await;
        Ok(result?)
    })
    .await
}

/// An answer that does not end with its client's connection.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let id = request_id::current();
    let work = tokio::spawn(request_id::scope(id.into(), work));
    work.await.expect("an operation does not panic, and the runtime outlives it")
}

/// Logs and counts operations, and wakes the running pipeline.
struct ServerObserver(ApiState);

impl OperationObserver for ServerObserver {
    fn ended(&self, operation: &EndedOperation<'_>) {
        log(operation);
        let action = operation.request.action;
        let outcome = if operation.error.is_some() { Outcome::Failed } else { Outcome::Done };
        count(&self.0, action, outcome);
        match action {
            "start" | "stop" => self.0.operator_requests.control.notify_one(),
            _ => self.0.operator_requests.feed.notify_one(),
        }
    }
}

fn log(operation: &EndedOperation<'_>) {
    let EndedOperation { actor, request, affected, error } = *operation;
    let Actor { name, role, request_id, .. } = actor;
    let AuditRequest { action, target, .. } = request;
    match error {
        None => info!(
            event = "operation_done",
            actor = name,
            role,
            action,
            target,
            affected,
            request_id,
            "operation done"
        ),
        Some(error) => warn!(
            event = "operation_failed",
            actor = name,
            role,
            action,
            target,
            affected,
            error = sentence(error),
            request_id,
            "operation failed"
        ),
    }
}

/// An attempt that was denied.
#[derive(Clone, Debug)]
pub(in crate::api) struct DeniedAttempt {
    /// The client's name, or `unknown`.
    pub(in crate::api) name: String,
    /// The client's role, or `none`.
    pub(in crate::api) role: String,
    pub(in crate::api) address: IpAddr,
    pub(in crate::api) path: String,
    /// The code of the answer.
    pub(in crate::api) code: &'static str,
}

/// Writes a denied attempt to the audit log, beside the answer. One at a time: a flood of attempts
/// is in the log and must not become one of rows.
pub(in crate::api) fn denied(state: &ApiState, attempt: DeniedAttempt) {
    let DeniedAttempt { name, role, address, path, code } = attempt;
    let action = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let action = ACTIONS.iter().find(|known| **known == action).copied().unwrap_or("other");
    count(state, action, Outcome::Denied);
    let Ok(permit) = Arc::clone(&state.denials).try_acquire_owned() else { return };
    let address = Some(address.to_string());
    let actor = Actor { name, role, address, request_id: Some(request_id::current()) };
    let request = AuditRequest { action, target: Some(path), reason: Some(code.to_owned()) };
    let state = state.clone();
    tokio::spawn(async move {
        let written = state
            .pool
            .read(async |client| audit::begin(client, &actor, &request, Outcome::Denied).await);
        if let Err(error) = written.await {
            debug!(
                event = "audit_not_written",
                error = sentence(&error),
                "a denied attempt was not written down"
            );
        }
        drop(permit);
    });
}

fn count(state: &ApiState, action: &'static str, outcome: Outcome) {
    state.metrics.http.admin_action(action, outcome.as_str());
}
