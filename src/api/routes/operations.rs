//! What changes something: `start`, `stop`, `retry-failed`, `clear`, and retrying or discarding by
//! filter. Each may be repeated, and each leaves its trail in the audit log.
//!
//! Not here: the statements (`admin::jobs::operations`), and who may call this (`route`).

use std::time::Duration;

use axum::Json;
use axum::extract;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audited::{AuditedOperation, Who, to_the_end};
use super::job;
use super::jobs::FilterBody;
use super::stats;
use crate::admin::jobs::filter::Filter;
use crate::admin::jobs::operations;
use crate::admin::jobs::operations::PartialFailure;
use crate::admin::pool;
use crate::api::server::input::{Body, Nothing};
use crate::api::{PoolError, Problem, State};
use crate::storage::audit::AuditRequest;
use crate::storage::control;

/// How long a look for stuck jobs is waited for.
const RESCUE_MAX: Duration = Duration::from_secs(3);
/// After this an operation answers with what it has done; a request may take 10 s.
const TIME_MAX: Duration = Duration::from_secs(4);

/// Answer of `start` and `stop`.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct Done {
    success: bool,
    message: String,
}

/// Answer of `retry-failed`, and of retrying one job.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct Retried {
    retried: u64,
    success: bool,
    message: String,
}

/// Answer of discarding one job.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct Discarded {
    discarded: u64,
    success: bool,
    message: String,
}

/// Answer of `clear`.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct Cleared {
    cleared: u64,
    success: bool,
    message: String,
}

/// Which failed jobs are meant, and what is known of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ByFilter {
    /// Empty: every failed job.
    #[serde(default)]
    filter: FilterBody,
    /// Only say how many.
    #[serde(default)]
    dry_run: bool,
    /// Do it only if exactly so many match.
    expected_count: Option<u64>,
    /// For discarding: why.
    reason: Option<String>,
}

/// Answer of retrying by filter.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct RetriedByFilter {
    matched: u64,
    retried: u64,
    dry_run: bool,
    success: bool,
    message: String,
    /// There was not the time for all of them: call again.
    more: bool,
}

/// Answer of discarding by filter.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct DiscardedByFilter {
    matched: u64,
    discarded: u64,
    dry_run: bool,
    success: bool,
    message: String,
    /// There was not the time for all of them: call again.
    more: bool,
}

/// `POST start`.
pub(in crate::api) async fn start(
    state: extract::State<State>,
    who: Who,
) -> Result<Json<Done>, Problem> {
    choose(state.0, who, true).await
}

/// `POST stop`.
pub(in crate::api) async fn stop(
    state: extract::State<State>,
    who: Who,
) -> Result<Json<Done>, Problem> {
    choose(state.0, who, false).await
}

async fn choose(state: State, who: Who, on: bool) -> Result<Json<Done>, Problem> {
    let (action, word) = if on { ("start", "started") } else { ("stop", "stopped") };
    to_the_end(async move {
        let trail = AuditedOperation::begin(
            &state,
            who,
            AuditRequest { action, ..AuditRequest::default() },
        )
        .await?;
        let client = &trail.own.session.client;
        let set = control::set_indexing(client, &state.slot, on).await;
        trail.end(set.map(|()| ((), 0)).map_err(PartialFailure::from)).await?;
        state.operator_requests.control.notify_one();
        Ok(Json(Done { success: true, message: format!("Queue processor {word}") }))
    })
    .await
}

/// `POST retry-failed`: stuck jobs first, then every failed one.
pub(in crate::api) async fn retry_failed(
    extract::State(state): extract::State<State>,
    who: Who,
) -> Result<Json<Retried>, Problem> {
    to_the_end(async move {
        let asked = AuditRequest { action: "retry-failed", ..AuditRequest::default() };
        let trail = AuditedOperation::begin(&state, who, asked).await?;
        let pass = state.operator_requests.rescue_now(RESCUE_MAX).await;
        let client = &trail.own.session.client;
        let done = operations::retry(client, &Filter::default(), &state.tables, TIME_MAX).await;
        let operations::Done { jobs: retried, more } =
            trail.end(done.map(|done| (done, done.jobs))).await?;
        state.operator_requests.feed.notify_one();
        let stuck = pass.map_or(0, |pass| pass.rescued.total());
        let mut message = format!("{retried} failed jobs retried successfully");
        if stuck > 0 {
            message.push_str(&format!("; {stuck} stuck jobs reset"));
        }
        if more {
            message.push_str("; there are more, call again");
        }
        Ok(Json(Retried { retried, success: true, message }))
    })
    .await
}

/// `POST clear`: finished jobs only.
pub(in crate::api) async fn clear(
    extract::State(state): extract::State<State>,
    who: Who,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Cleared>, Problem> {
    to_the_end(async move {
        let request = AuditRequest { action: "clear", ..AuditRequest::default() };
        let trail = AuditedOperation::begin(&state, who, request).await?;
        let client = &trail.own.session.client;
        let cleared = async {
            let done = operations::clear(client, TIME_MAX).await?;
            let left = operations::unfinished(client).await;
            left.map(|left| (done, left)).map_err(|error| PartialFailure { error, jobs: done.jobs })
        };
        let cleared = cleared.await.map(|(done, left)| ((done, left), done.jobs));
        let (done, left) = trail.end(cleared).await?;
        let operations::Done { jobs: cleared, more } = done;
        let message = match left {
            _ if more => "Not all finished jobs are cleared yet; call again".to_owned(),
            0 => "Queue cleared successfully".to_owned(),
            left => format!(
                "Queue cleared successfully; {left} jobs are unfinished and stay until they are done"
            ),
        };
        Ok(Json(Cleared { cleared, success: true, message }))
    })
    .await
}

/// `POST operations/retry`.
pub(in crate::api) async fn retry_by_filter(
    extract::State(state): extract::State<State>,
    who: Who,
    Body(body): Body<ByFilter>,
) -> Result<Json<RetriedByFilter>, Problem> {
    let filter = body.filter.filter()?;
    if body.reason.is_some() {
        job::reason(body.reason.clone())?;
    }
    let matched = matched(&state, &filter, &body).await?;
    if body.dry_run {
        let message = format!("{matched} failed jobs match; nothing was changed");
        let (retried, dry_run, success, more) = (0, true, true, false);
        return Ok(Json(RetriedByFilter { matched, retried, dry_run, success, message, more }));
    }
    let asked =
        AuditRequest { action: "retry", target: Some(target(&body.filter)), reason: body.reason };
    let done = many(&state, who, asked, filter, Many::Retry).await?;
    let operations::Done { jobs: retried, more } = done;
    let message = format!("{retried} failed jobs are pending again{}", again(more));
    let (dry_run, success) = (false, true);
    Ok(Json(RetriedByFilter { matched, retried, dry_run, success, message, more }))
}

/// `POST operations/discard`.
pub(in crate::api) async fn discard_by_filter(
    extract::State(state): extract::State<State>,
    who: Who,
    Body(body): Body<ByFilter>,
) -> Result<Json<DiscardedByFilter>, Problem> {
    let filter = body.filter.filter()?;
    if body.dry_run {
        let matched = matched(&state, &filter, &body).await?;
        let message = format!("{matched} failed jobs match; nothing was changed");
        let (discarded, dry_run, success, more) = (0, true, true, false);
        return Ok(Json(DiscardedByFilter { matched, discarded, dry_run, success, message, more }));
    }
    let reason = job::reason(body.reason.clone())?;
    let matched = matched(&state, &filter, &body).await?;
    let target = Some(target(&body.filter));
    let asked = AuditRequest { action: "discard", target, reason: Some(reason) };
    let done = many(&state, who, asked, filter, Many::Discard).await?;
    let operations::Done { jobs: discarded, more } = done;
    let message = format!("{discarded} failed jobs were discarded{}", again(more));
    let (dry_run, success) = (false, true);
    Ok(Json(DiscardedByFilter { matched, discarded, dry_run, success, message, more }))
}

/// Retries what is known to be failed.
pub(in crate::api) async fn retry(
    state: &State,
    who: Who,
    asked: AuditRequest,
    filter: Filter,
) -> Result<Retried, Problem> {
    let retried = many(state, who, asked, filter, Many::Retry).await?.jobs;
    let message = match retried {
        0 => "it was no longer failed; nothing was changed".to_owned(),
        _ => "the job is pending again".to_owned(),
    };
    Ok(Retried { retried, success: retried > 0, message })
}

/// Discards what is known to be failed.
pub(in crate::api) async fn discard(
    state: &State,
    who: Who,
    asked: AuditRequest,
    filter: Filter,
) -> Result<Discarded, Problem> {
    let discarded = many(state, who, asked, filter, Many::Discard).await?.jobs;
    let message = match discarded {
        0 => "it was no longer failed; nothing was changed".to_owned(),
        _ => "the job was discarded".to_owned(),
    };
    Ok(Discarded { discarded, success: discarded > 0, message })
}

#[derive(Clone, Copy)]
enum Many {
    Retry,
    Discard,
}

async fn many(
    state: &State,
    who: Who,
    asked: AuditRequest,
    filter: Filter,
    what: Many,
) -> Result<operations::Done, Problem> {
    let state = state.clone();
    to_the_end(async move {
        let trail = AuditedOperation::begin(&state, who, asked).await?;
        let (client, tables) = (&trail.own.session.client, &state.tables);
        let done = match what {
            Many::Retry => operations::retry(client, &filter, tables, TIME_MAX).await,
            Many::Discard => operations::discard(client, &filter, tables, TIME_MAX).await,
        };
        let done = trail.end(done.map(|done| (done, done.jobs))).await?;
        state.operator_requests.feed.notify_one();
        Ok(done)
    })
    .await
}

/// How many failed jobs match; a problem if that is not what was expected.
async fn matched(state: &State, filter: &Filter, body: &ByFilter) -> Result<u64, Problem> {
    let look = async {
        let lent = state.pool.lend().await?;
        let matched = operations::count_failed(&lent, filter, &state.tables).await?;
        lent.give_back();
        Ok::<_, PoolError>(matched)
    };
    let matched = pool::in_time(look).await.map_err(|error| stats::problem(&error))?;
    match body.expected_count {
        Some(expected) if expected != matched && !body.dry_run => {
            let detail =
                format!("{matched} failed jobs match now, not {expected}; nothing was changed");
            let problem = Problem::new(StatusCode::CONFLICT, "count_changed", detail);
            Err(problem.with("matched", matched))
        }
        _ => Ok(matched),
    }
}

fn target(filter: &FilterBody) -> String {
    match serde_json::to_string(filter) {
        Ok(text) if text != "{}" => format!("failed jobs where {text}"),
        _ => "all failed jobs".to_owned(),
    }
}

const fn again(more: bool) -> &'static str {
    if more { "; there are more, call again" } else { "" }
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
    fn the_audit_log_tells_which_jobs_were_meant() {
        assert_eq!(target(&FilterBody::default()), "all failed jobs");
        let filter: FilterBody = serde_json::from_str(r#"{"table":"listings"}"#).unwrap();
        assert_eq!(target(&filter), r#"failed jobs where {"table":"listings"}"#);
    }
}
