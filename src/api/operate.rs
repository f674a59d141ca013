//! What changes something: `start`, `stop`, `retry-failed`, `clear`. Each may be repeated.
//!
//! Not here: the statements (`queue::operate`), and who may call this.

use std::time::Duration;

use axum::Json;
use axum::extract;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use tracing::info;

use super::{PoolError, Problem, State};
use crate::postgres;
use crate::queue::QueueError;
use crate::queue::operate::{self, Filter};

/// The database may take this long over one operation.
const SETTINGS: &str = "set statement_timeout = '60s'; set lock_timeout = '5s'";
/// How long a look for stuck jobs is waited for.
const RESCUE_MAX: Duration = Duration::from_secs(3);
/// After this an operation answers with what it has done; a request may take 10 s.
const TIME_MAX: Duration = Duration::from_secs(4);

/// Answer of `start` and `stop`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Done {
    success: bool,
    message: String,
}

/// Answer of `retry-failed`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Retried {
    retried: u64,
    success: bool,
    message: String,
}

/// Answer of `clear`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cleared {
    cleared: u64,
    success: bool,
    message: String,
}

/// `POST start`.
pub(super) async fn start(
    state: extract::State<State>,
    headers: HeaderMap,
) -> Result<Json<Done>, Problem> {
    choose(&state, &headers, true).await
}

/// `POST stop`.
pub(super) async fn stop(
    state: extract::State<State>,
    headers: HeaderMap,
) -> Result<Json<Done>, Problem> {
    choose(&state, &headers, false).await
}

async fn choose(state: &State, headers: &HeaderMap, on: bool) -> Result<Json<Done>, Problem> {
    same_site(headers)?;
    let session = session(state).await?;
    operate::set_indexing(&session.client, &state.slot, on).await.map_err(problem)?;
    state.desk.control.notify_one();
    let word = if on { "started" } else { "stopped" };
    info!("an operator has {word} indexing");
    Ok(Json(Done { success: true, message: format!("Queue processor {word}") }))
}

/// `POST retry-failed`: stuck jobs first, then every failed one.
pub(super) async fn retry_failed(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
) -> Result<Json<Retried>, Problem> {
    same_site(&headers)?;
    let pass = state.desk.rescue_now(RESCUE_MAX).await;
    let session = session(&state).await?;
    let done = operate::retry(&session.client, &Filter::default(), TIME_MAX).await;
    let operate::Done { jobs: retried, more } = done.map_err(problem)?;
    state.desk.feed.notify_one();
    let stuck = pass.map_or(0, |pass| pass.rescued.total());
    info!(retried, stuck, "an operator has retried all failed jobs");
    let mut message = format!("{retried} failed jobs retried successfully");
    if stuck > 0 {
        message.push_str(&format!("; {stuck} stuck jobs reset"));
    }
    if more {
        message.push_str("; there are more, call again");
    }
    Ok(Json(Retried { retried, success: true, message }))
}

/// `POST clear`: finished jobs only.
pub(super) async fn clear(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
) -> Result<Json<Cleared>, Problem> {
    same_site(&headers)?;
    let session = session(&state).await?;
    let done = operate::clear(&session.client, TIME_MAX).await;
    let operate::Done { jobs: cleared, more } = done.map_err(problem)?;
    let left = operate::unfinished(&session.client).await.map_err(problem)?;
    info!(cleared, left, "an operator has cleared finished jobs");
    let message = match left {
        _ if more => "Not all finished jobs are cleared yet; call again".to_owned(),
        0 => "Queue cleared successfully".to_owned(),
        left => format!(
            "Queue cleared successfully; {left} jobs are unfinished and stay until they are done"
        ),
    };
    Ok(Json(Cleared { cleared, success: true, message }))
}

/// A page of another site must not operate this one: browsers say where a request comes from.
fn same_site(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    match site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "a page of another site may not operate walferry; use its own page or a client",
        )),
    }
}

/// A session of its own: an operation may take longer than a look at the figures.
async fn session(state: &State) -> Result<postgres::Session, Problem> {
    let session = state.pool.connect("walferry operate").await.map_err(super::stats::problem)?;
    let set = session.client.batch_execute(SETTINGS).await;
    set.map_err(|error| super::stats::problem(PoolError::Query(error)))?;
    Ok(session)
}

fn problem(error: QueueError) -> Problem {
    match error {
        QueueError::Database { source, .. } => super::stats::problem(PoolError::Query(source)),
        error => {
            let detail = error.to_string();
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_documented_ones() {
        let done = Done { success: true, message: "Queue processor started".to_owned() };
        let body = serde_json::to_string(&done).unwrap();
        assert_eq!(body, r#"{"success":true,"message":"Queue processor started"}"#);
        let message = "3 failed jobs retried successfully".to_owned();
        let retried = Retried { retried: 3, success: true, message };
        let body = serde_json::to_string(&retried).unwrap();
        let expected =
            r#"{"retried":3,"success":true,"message":"3 failed jobs retried successfully"}"#;
        assert_eq!(body, expected);
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let from = |site: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            site.map(|site| headers.insert("sec-fetch-site", site.parse().unwrap()));
            same_site(&headers).is_ok()
        };
        assert!(from(None) && from(Some("same-origin")) && from(Some("none")));
        assert!(!from(Some("cross-site")) && !from(Some("same-site")));
    }
}
