//! Operations and denied attempts of the API: who asks, and what the log, the metrics and the audit
//! log say of it.
//!
//! Not here: the operations (`admin`), and how a client proves its identity (`auth`).

use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use tokio::time::{Instant, interval};
use tracing::{debug, info, warn};

use super::denials::{DenialKey, DenialSum, Denials};
use super::listener;
use super::problem::Problem;
use super::reads::NotedRead;
use super::request_id;
use crate::admin::audited::{ACTIONS, EndedOperation, OperationObserver, Operator};
use crate::admin::pool::SessionPurpose;
use crate::api::auth::identity::Identity;
use crate::api::state::ApiState;
use crate::postgres::error::sentence;
use crate::storage::audit::{self, Actor, AuditRequest, Outcome};

/// The database may take this long over one statement of an operation.
const SETTINGS: &str = "set statement_timeout = '5s'; set lock_timeout = '2s'";
/// After this an operation answers with what it has done; a request may take 10 s.
const TIME_MAX: Duration = Duration::from_secs(4);
/// How often sums of denied attempts are reported whose minute is over.
const SUMS_EVERY: Duration = Duration::from_secs(5);

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
        let session = state.pool.own(SessionPurpose::Operation, SETTINGS).await;
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

/// Writes down that `requester` reads `target`, where the setting `api.audit_reads` asks for it. What
/// cannot be written down is not read.
pub(in crate::api) async fn note_read(
    state: &ApiState,
    Requester(actor): Requester,
    target: String,
) -> Result<(), Problem> {
    if !state.access.audit_reads {
        return Ok(());
    }
    let read = NotedRead::new(&actor, &target);
    let now = Instant::now();
    let reads = || state.reads.lock().unwrap_or_else(PoisonError::into_inner);
    if reads().has(&read, now) {
        return Ok(());
    }
    let request = AuditRequest { action: audit::READ, target: Some(target), reason: None };
    let written = state
        .pool
        .read(async |client| audit::begin(client, &actor, &request, Outcome::Done).await.map(drop));
    written.await?;
    reads().add(read, now);
    Ok(())
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
            subject = target,
            affected,
            request_id,
            "operation done"
        ),
        Some(error) => warn!(
            event = "operation_failed",
            actor = name,
            role,
            action,
            subject = target,
            affected,
            error = sentence(error),
            request_id,
            "operation failed"
        ),
    }
}

/// An attempt that was denied.
#[derive(Clone, Debug)]
pub(in crate::api) struct DeniedAttempt<'a> {
    /// The client's name; empty without an identity.
    pub(in crate::api) name: String,
    /// The client's role, or `none`.
    pub(in crate::api) role: String,
    pub(in crate::api) address: IpAddr,
    pub(in crate::api) method: &'a Method,
    pub(in crate::api) path: &'a str,
    /// The code of the answer.
    pub(in crate::api) code: &'static str,
}

/// Reports a denied attempt: counts it, and logs the first of its kind in a minute. The first that
/// would have changed something is in the audit log, written beside the answer.
pub(in crate::api) fn denied(state: &ApiState, attempt: DeniedAttempt<'_>) {
    let DeniedAttempt { name, role, address, method, path, code } = attempt;
    let is_change = *method == Method::POST;
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let action = ACTIONS.iter().find(|known| **known == last).copied().unwrap_or("other");
    if is_change {
        count(state, action, Outcome::Denied);
    }
    let summed_action = if name.is_empty() { "" } else { action };
    let key = DenialKey { address, name: name.clone(), code, action: summed_action };
    let first = denials(state).add(key, is_change, Instant::now());
    let request_id = request_id::current();
    if first.is_first {
        warn!(
            event = "request_denied",
            name,
            %address,
            %method,
            path,
            code,
            request_id,
            "a request was denied"
        );
    }
    if first.is_first_change {
        let name = if name.is_empty() { "unknown".to_owned() } else { name };
        let address = Some(address.to_string());
        let actor = Actor { name, role, address, request_id: Some(request_id) };
        let target = Some(path.to_owned());
        let request = AuditRequest { action, target, reason: Some(code.to_owned()) };
        tokio::spawn(write_denial(state.clone(), actor, request, 1));
    }
}

/// Reports sums of denied attempts when their minute is over, until the server stops.
pub(in crate::api) async fn report_sums(state: ApiState) {
    let mut ticks = interval(SUMS_EVERY);
    loop {
        let is_stopping = tokio::select! {
            () = state.stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        let sums = denials(&state).ended(Instant::now(), is_stopping);
        for sum in sums {
            report_sum(&state, sum).await;
        }
        if is_stopping {
            return;
        }
    }
}

async fn report_sum(state: &ApiState, sum: DenialSum) {
    let DenialSum { key: DenialKey { address, name, code, action }, attempts, changes } = sum;
    let address = match address.is_unspecified() {
        true => "several".to_owned(),
        false => address.to_string(),
    };
    warn!(
        event = "requests_denied",
        name, address, code, attempts, "more requests were denied within a minute"
    );
    if changes > 0 {
        let name = if name.is_empty() { "unknown".to_owned() } else { name };
        let actor =
            Actor { name, role: "none".to_owned(), address: Some(address), request_id: None };
        let action = if action.is_empty() { "other" } else { action };
        let reason = Some(format!("{code}; {changes} more within a minute"));
        let request = AuditRequest { action, target: None, reason };
        write_denial(state.clone(), actor, request, changes).await;
    }
}

/// Writes one line for denied attempts. One at a time: they leave PostgreSQL to others.
async fn write_denial(state: ApiState, actor: Actor, request: AuditRequest, attempts: u64) {
    let Ok(_permit) = Arc::clone(&state.denial_writes).acquire_owned().await else { return };
    let written = state.pool.read(async |client| {
        let id = audit::begin(client, &actor, &request, Outcome::Denied).await?;
        if attempts > 1 {
            audit::end(client, id, Outcome::Denied, attempts, None).await?;
        }
        Ok(())
    });
    if let Err(error) = written.await {
        debug!(
            event = "audit_not_written",
            error = sentence(&error),
            "a denied attempt was not written down"
        );
    }
}

fn denials(state: &ApiState) -> MutexGuard<'_, Denials> {
    state.denials.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(state: &ApiState, action: &'static str, outcome: Outcome) {
    state.metrics.http.admin_action(action, outcome.as_str());
}
