//! Lets a request through to its route: who asks, how often, and whether their role is enough.
//!
//! Not here: which route needs which role (the table of routes).

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use axum::extract::{self, ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Identity, Refusal, Role, challenge};
use crate::api::routes::audited;
use crate::api::server::listener::Peer;
use crate::api::server::rate::Class;
use crate::api::server::request_id;
use crate::api::{Problem, State};

/// Answered however often they are asked, and whoever asks.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// An attempt that was refused, for the log and the audit log.
#[derive(Debug)]
pub(in crate::api) struct Denied<'a> {
    /// `None` if it is not known who asked.
    pub(in crate::api) identity: Option<&'a Identity>,
    pub(in crate::api) address: IpAddr,
    pub(in crate::api) method: &'a Method,
    pub(in crate::api) path: &'a str,
    /// Why: the code of the answer.
    pub(in crate::api) code: &'static str,
}

/// Lets through who has the role that a route needs, or everybody where it needs none. The identity
/// then stands among the request's extensions.
pub(in crate::api) async fn authorize(
    extract::State((state, needed)): extract::State<(State, Option<Role>)>,
    request: Request,
    next: Next,
) -> Response {
    if needed.is_none() && PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let (mut head, body) = request.into_parts();
    let address = address(&head);
    let refused = |identity, code| {
        let (method, path) = (&head.method, head.uri.path());
        denied(&state, &Denied { identity, address, method, path, code });
    };
    let identity = match state.access.authenticator.identify(&head.headers, SystemTime::now()).await
    {
        Ok(identity) => identity,
        Err(refusal) => {
            refused(None, refusal.code());
            return failed(&state, refusal, address);
        }
    };
    let looks = matches!(head.method, Method::GET | Method::HEAD);
    let class = if looks { Class::Read } else { Class::Action };
    let name = identity.as_ref().map_or("", |identity| identity.name.as_str());
    if let Err(wait) = state.access.rates.take(class, name, address, Instant::now()) {
        state.metrics.http_rate_limited();
        return too_often(wait);
    }
    match (needed, &identity) {
        (Some(_), None) => {
            refused(None, "not_authenticated");
            return unauthenticated();
        }
        (Some(needed), Some(somebody)) if somebody.role < needed => {
            refused(Some(somebody), "not_permitted");
            return not_permitted(somebody.role, needed);
        }
        _ => {}
    }
    if let Some(identity) = identity {
        head.extensions.insert(identity);
    }
    next.run(Request::from_parts(head, body)).await
}

/// Where a request comes from, as the socket has it: headers can be made up.
pub(in crate::api) fn address(head: &Parts) -> IpAddr {
    let peer = head.extensions.get::<ConnectInfo<Peer>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(Peer(address))| address.ip())
}

fn failed(state: &State, refusal: Refusal, address: IpAddr) -> Response {
    if refusal == Refusal::KeysUnavailable {
        return refusal.into_response();
    }
    state.metrics.http_auth_failure(refusal.code());
    match state.access.rates.take(Class::Failure, "", address, Instant::now()) {
        Ok(()) => refusal.into_response(),
        Err(wait) => {
            state.metrics.http_rate_limited();
            too_often(wait)
        }
    }
}

fn denied(state: &State, attempt: &Denied<'_>) {
    let Denied { identity, address, method, path, code } = attempt;
    let name = identity.map_or("", |identity| identity.name.as_str());
    let request_id = request_id::current();
    // A page that asks before somebody has signed in is no attempt.
    if *code == "not_authenticated" && *method == Method::GET {
        debug!(
            event = "token_missing",
            %address,
            %method,
            path,
            code,
            request_id,
            "a request without a token"
        );
    } else {
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
    // A look that was denied has changed nothing; what was to be changed is in the audit log.
    if *method == Method::POST {
        let role = identity.map_or("none", |identity| identity.role.as_str()).to_owned();
        let name = if name.is_empty() { "unknown" } else { name }.to_owned();
        audited::denied(state, (name, role), *address, path, code);
    }
}

fn unauthenticated() -> Response {
    let detail = "say who you are: send `Authorization: Bearer TOKEN`";
    challenge(Problem::new(StatusCode::UNAUTHORIZED, "not_authenticated", detail), "Bearer")
}

fn not_permitted(role: Role, needed: Role) -> Response {
    let detail = format!("this needs the role {}, and you have {}", needed.as_str(), role.as_str());
    Problem::new(StatusCode::FORBIDDEN, "not_permitted", detail).into_response()
}

fn too_often(wait: Duration) -> Response {
    let seconds = wait.as_secs() + 1;
    let detail = format!("too many requests; try again in {seconds} s");
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
    let mut response = problem.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}
