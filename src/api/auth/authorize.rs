//! Lets a request through to its route: its identity, its rate, and whether the role is enough.
//!
//! Not here: which route needs which role (the table of routes).

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use axum::extract::{self, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::identity::Identity;
use super::refusal::{AuthRefusal, challenge};
use crate::api::server::audit_log::{self, DeniedAttempt};
use crate::api::server::input::Parameters;
use crate::api::server::listener;
use crate::api::server::problem::Problem;
use crate::api::server::rate::RateClass;
use crate::api::state::ApiState;
use crate::config::Role;

/// Answered to every client, at any rate.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// What [`authorize`] needs to know of a route.
#[derive(Clone)]
pub(in crate::api) struct RouteAccess {
    pub(in crate::api) state: ApiState,
    /// `None` where the route is public.
    pub(in crate::api) needed: Option<Role>,
    /// Whether the route takes parameters.
    pub(in crate::api) takes_parameters: bool,
}

/// Lets requests through that have the role a route needs, or every request where it needs none. The
/// identity then stands among the request's extensions.
pub(in crate::api) async fn authorize(
    extract::State(access): extract::State<RouteAccess>,
    request: Request,
    next: Next,
) -> Response {
    let RouteAccess { state, needed, takes_parameters } = access;
    if needed.is_none() && PROBES.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let (mut head, body) = request.into_parts();
    let address = listener::address(&head);
    let now = SystemTime::now();
    let identity = match state.access.authenticator.identify(&head.headers, now).await {
        Ok(identity) => identity,
        Err(refusal) => {
            let answer = refused(&state, refusal, address);
            denied(&state, &head, None, refusal.code());
            return answer;
        }
    };
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    let class = if is_read { RateClass::Read } else { RateClass::Action };
    let name = identity.as_ref().map_or("", |identity| identity.name.as_str());
    if let Err(wait) = state.access.rates.take(class, name, address, Instant::now()) {
        state.metrics.http_rate_limited();
        return too_often(wait);
    }
    match (needed, &identity) {
        (Some(_), None) => {
            denied(&state, &head, None, "not_authenticated");
            return unauthenticated();
        }
        (Some(needed), Some(known)) if known.role < needed => {
            denied(&state, &head, Some(known), "not_permitted");
            return not_permitted(known.role, needed);
        }
        _ => {}
    }
    if !is_read && !takes_parameters {
        // `clear?dry_run=true` must not clear.
        let parameters = Parameters::from_query(head.uri.query());
        if let Err(problem) = parameters.finish() {
            return problem.into_response();
        }
    }
    if let Some(identity) = identity {
        head.extensions.insert(identity);
    }
    next.run(Request::from_parts(head, body)).await
}

fn refused(state: &ApiState, refusal: AuthRefusal, address: IpAddr) -> Response {
    if refusal == AuthRefusal::KeysUnavailable {
        return refusal.into_response();
    }
    state.metrics.http_auth_failure(refusal.code());
    match state.access.rates.take(RateClass::Failure, "", address, Instant::now()) {
        Ok(()) => refusal.into_response(),
        Err(wait) => {
            state.metrics.http_rate_limited();
            too_often(wait)
        }
    }
}

/// Reports a denied attempt, unless it is one of many: those are summed. An attempt to change
/// something is in the audit log as well.
fn denied(state: &ApiState, head: &Parts, identity: Option<&Identity>, code: &'static str) {
    let address = listener::address(head);
    let method = &head.method;
    let path = head.uri.path();
    let name = identity.map_or("", |identity| identity.name.as_str()).to_owned();
    let role = identity.map_or("none", |identity| identity.role.as_str()).to_owned();
    audit_log::denied(state, DeniedAttempt { name, role, address, method, path, code });
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
