//! Who asks, and the trail that an operation leaves in the audit log.
//!
//! Not here: the table (`storage::audit`), and how somebody proves who they are (`auth`).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use tracing::{debug, info, warn};

use super::stats;
use crate::admin::jobs::operations::PartialFailure;
use crate::admin::pool::{DedicatedSession, PoolError, in_time};
use crate::api::auth::{Identity, authorize};
use crate::api::server::request_id;
use crate::api::{Problem, State};
use crate::postgres::error::sentence;
use crate::storage::audit;
use crate::storage::audit::{Actor, AuditRequest, Outcome};

/// The database may take this long over one statement of an operation.
const SETTINGS: &str = "set statement_timeout = '5s'; set lock_timeout = '2s'";

/// Who asks.
#[derive(Clone, Debug)]
pub(in crate::api) struct Who(pub(in crate::api) Actor);

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let identity = parts.extensions.get::<Identity>();
        let detail = "say who you are: send `Authorization: Bearer TOKEN`";
        let identity = identity
            .ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "not_authenticated", detail))?;
        Ok(Self(Actor {
            name: identity.name.clone(),
            role: identity.role.as_str().to_owned(),
            address: Some(authorize::address(parts).to_string()),
            request_id: Some(request_id::current()),
        }))
    }
}

/// Why an operation failed, and how many rows it was about by then.
pub(in crate::api) struct Failed {
    error: PoolError,
    affected: u64,
}

impl From<PoolError> for Failed {
    fn from(error: PoolError) -> Self {
        Self { error, affected: 0 }
    }
}

impl From<PartialFailure> for Failed {
    fn from(PartialFailure { error, jobs }: PartialFailure) -> Self {
        Self { error: error.into(), affected: jobs }
    }
}

/// An operation that is under way and written down as such.
pub(in crate::api) struct AuditedOperation {
    state: State,
    pub(in crate::api) own: DedicatedSession,
    id: i64,
    actor: Actor,
    asked: AuditRequest,
}

impl AuditedOperation {
    /// Writes down that it begins. What cannot be written down is not done.
    pub(in crate::api) async fn begin(
        state: &State,
        who: Who,
        asked: AuditRequest,
    ) -> Result<Self, Problem> {
        let own = state.pool.own("walferry operate", SETTINGS).await;
        let refused = |error: &PoolError| {
            count(state, asked.action, Outcome::Failed);
            stats::problem(error)
        };
        let own = own.map_err(|error| refused(&error))?;
        let Who(actor) = who;
        let begun = audit::begin(&own.session.client, &actor, &asked, Outcome::Started).await;
        let id = begun.map_err(|error| refused(&error.into()))?;
        Ok(Self { state: state.clone(), own, id, actor, asked })
    }

    /// Writes down what came of it: the answer, and how many rows it was about.
    pub(in crate::api) async fn end<T>(
        self,
        result: Result<(T, u64), impl Into<Failed>>,
    ) -> Result<T, Problem> {
        let Actor { name, role, request_id, .. } = &self.actor;
        let AuditRequest { action, target, .. } = &self.asked;
        let client = &self.own.session.client;
        let (result, written) = match result {
            Ok((answer, affected)) => {
                info!(
                    event = "operation_done",
                    actor = name,
                    role,
                    action,
                    target,
                    affected,
                    request_id,
                    "operation done"
                );
                count(&self.state, action, Outcome::Done);
                let written = audit::end(client, self.id, Outcome::Done, affected, None).await;
                (Ok(answer), written)
            }
            Err(error) => {
                let Failed { error, affected } = error.into();
                let said = sentence(&error);
                warn!(
                    event = "operation_failed",
                    actor = name,
                    role,
                    action,
                    target,
                    affected,
                    error = said,
                    request_id,
                    "operation failed"
                );
                let failed = Outcome::Failed;
                count(&self.state, action, failed);
                let written = audit::end(client, self.id, failed, affected, Some(&said)).await;
                (Err(stats::problem(&error)), written)
            }
        };
        self.state.sampler.forget().await;
        if let Err(error) = written {
            // It is done, and stays `started` in the log.
            warn!(
                event = "audit_not_written",
                error = %error,
                action,
                request_id,
                "the end of an operation was not written down"
            );
        }
        result
    }
}

/// Writes down that somebody was denied something, beside the answer. One at a time: a flood of
/// attempts is in the log, and must not become one of rows.
pub(in crate::api) fn denied(
    state: &State,
    (name, role): (String, String),
    address: IpAddr,
    path: &str,
    code: &'static str,
) {
    let action = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let action = ACTIONS.iter().find(|known| **known == action).copied().unwrap_or("other");
    count(state, action, Outcome::Denied);
    let Ok(place) = Arc::clone(&state.denials).try_acquire_owned() else { return };
    let actor = Actor {
        name,
        role,
        address: Some(address.to_string()),
        request_id: Some(request_id::current()),
    };
    let (target, reason) = (Some(path.to_owned()), Some(code.to_owned()));
    let (asked, state) = (AuditRequest { action, target, reason }, state.clone());
    tokio::spawn(async move {
        let written = async {
            let lent = state.pool.lend().await?;
            audit::begin(&lent, &actor, &asked, Outcome::Denied).await?;
            lent.give_back();
            Ok::<_, PoolError>(())
        };
        if let Err(error) = in_time(written).await {
            debug!(
                event = "audit_not_written",
                error = sentence(&error),
                "a denied attempt was not written down"
            );
        }
        drop(place);
    });
}

/// Words for what is asked for and for what is denied.
pub(in crate::api) const ACTIONS: [&str; 8] =
    ["retry-failed", "clear", "start", "stop", "retry", "discard", "resync", "other"];

fn count(state: &State, action: &'static str, outcome: Outcome) {
    state.metrics.http.admin_action(action, outcome.as_str());
}

/// An answer that does not end with its client's connection: what is begun is done and written
/// down.
pub(in crate::api) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let id = request_id::current();
    let work = tokio::spawn(request_id::scope(id.into(), work));
    work.await.expect("an operation does not panic, and the runtime outlives it")
}
