//! The HTTP server.
//!
//! [`routes`] is the one table of the routes, from which `docs/api.md` lists them; `GET /` and
//! `GET /assets/…` are the admin page (`page`). The queue's routes are below `/api/v1/queue` and,
//! for the page of the original system, below `/api/v1/ai-suggestions/queue`. Every error, 404 and
//! 405 included, is `application/problem+json` ([`Problem`]).
//!
//! Invariants: the server has connections to PostgreSQL of its own, so it neither waits for the
//! pipeline nor slows it; it starts before PostgreSQL can be reached and stays when it can't;
//! bodies, heads, requests and connections have limits (`server`); identity and role (`auth`) and the
//! origin (`server::origin`) are checked before a route is reached.

pub mod auth;
mod page;
pub mod routes;
pub mod server;
pub mod state;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode};
use axum::{Extension, Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::auth::authorize::{RouteAccess, authorize};
use self::auth::reload;
use self::routes::openapi::ApiDescription;
use self::server::input::BODY_BYTES_MAX;
use self::server::problem::Problem;
use self::server::{audit_log, limits, listener, origin};
use self::state::ApiState;

/// How long requests under way may take to end once the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// Answers requests until shutdown, then lets those under way end.
///
/// # Errors
///
/// The listener has no local address: it is not a listening socket.
pub async fn serve(
    listener: TcpListener,
    state: ApiState,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let stop = state.stop.clone();
    let sampled = state.clone();
    let sums = tokio::spawn(audit_log::report_sums(state.clone()));
    let ended = tokio::select! {
        ended = listener::serve(listener, router(state), stop.clone()) => ended,
        () = sampled.sampler.run() => Ok(()),
        () = reload::watch(sampled.clone()) => Ok(()),
        () = async {
            shutdown.cancelled().await;
            stop.cancel();
            tokio::time::sleep(GRACE).await;
        } => Ok(()),
    };
    stop.cancel();
    // The last sums are written down if PostgreSQL answers in time.
    drop(tokio::time::timeout(GRACE, sums).await);
    ended
}

fn router(state: ApiState) -> Router {
    let mut router = page::routes();
    for route in routes::routes() {
        let access = RouteAccess {
            state: state.clone(),
            needed: route.access.role(),
            takes_parameters: route.query.is_some(),
        };
        let handler = route.handler.route_layer(middleware::from_fn_with_state(access, authorize));
        for prefix in route.place.prefixes() {
            router = router.route(&format!("{prefix}{}", route.path), handler.clone());
        }
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(Extension(Arc::new(ApiDescription::new(routes::routes))))
        .layer(middleware::from_fn_with_state(state.clone(), origin::protect))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), limits::guard))
        .with_state(state)
}

async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such route")
}

async fn no_method(method: Method) -> Problem {
    let detail = format!("this route does not answer {method}; the Allow header says what it does");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
