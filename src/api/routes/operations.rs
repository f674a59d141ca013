//! `start`, `stop`, `retry-failed`, `clear`, and retries and discards by filter. Each may be repeated.
//!
//! Not here: the operations (`admin::jobs::operations`), and who may use them (the table of routes).

use std::sync::Arc;

use axum::Json;
use axum::extract;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jobs::FilterBody;
use crate::admin::jobs::filter::Filter;
use crate::admin::jobs::operations::{
    self, FailedJobAction, FailedJobsRequest, JobsChanged, RestoreRequest, RetriedJobs,
};
use crate::api::server::audit_log::{Requester, operate};
use crate::api::server::input::{self, Body, Nothing, Reason};
use crate::api::server::problem::Problem;
use crate::api::state::ApiState;

/// Answer of `start` and `stop`.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Done")]
pub(in crate::api) struct IndexingChosen {
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
    #[schemars(length(min = 3, max = 500))]
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
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(body): Body<Reason>,
) -> Result<Json<IndexingChosen>, Problem> {
    set_indexing(&state, requester, true, body).await?;
    let message = "Queue processor started".to_owned();
    Ok(Json(IndexingChosen { success: true, message }))
}

/// `POST stop`.
pub(in crate::api) async fn stop(
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(body): Body<Reason>,
) -> Result<Json<IndexingChosen>, Problem> {
    set_indexing(&state, requester, false, body).await?;
    let message = "Queue processor stopped".to_owned();
    Ok(Json(IndexingChosen { success: true, message }))
}

async fn set_indexing(
    state: &ApiState,
    requester: Requester,
    on: bool,
    Reason { reason }: Reason,
) -> Result<(), Problem> {
    let reason = input::optional_reason(reason)?;
    let slot = Arc::clone(&state.slot);
    let action = if on { "start" } else { "stop" };
    operate(state, requester, action, move |operator| async move {
        operations::set_indexing(&operator, &slot, on, reason).await
    })
    .await
}

/// `POST retry-failed`: stuck jobs first, then every failed one.
pub(in crate::api) async fn retry_failed(
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Retried>, Problem> {
    let shared = state.clone();
    let done = operate(&state, requester, "retry-failed", move |operator| async move {
        operations::retry_failed(&operator, &shared.tables, &shared.operator_requests).await
    });
    let RetriedJobs { failed: JobsChanged { jobs: retried, more }, stuck } = done.await?;
    let mut message = format!("{retried} failed jobs retried successfully");
    if stuck > 0 {
        message.push_str(&format!("; {stuck} stuck jobs reset"));
    }
    message.push_str(again(more));
    Ok(Json(Retried { retried, success: true, message }))
}

/// `POST clear`: finished jobs only.
pub(in crate::api) async fn clear(
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(Reason { reason }): Body<Reason>,
) -> Result<Json<Cleared>, Problem> {
    let reason = input::optional_reason(reason)?;
    let done = operate(&state, requester, "clear", |operator| async move {
        operations::clear(&operator, reason).await
    });
    let done = done.await?;
    let message = match done.unfinished {
        _ if done.finished.more => "Not all finished jobs are cleared yet; call again".to_owned(),
        0 => "Queue cleared successfully".to_owned(),
        left => {
            format!(
                "Queue cleared successfully; {left} jobs are unfinished and stay until they are done"
            )
        }
    };
    Ok(Json(Cleared { cleared: done.finished.jobs, success: true, message }))
}

/// `POST operations/retry`.
pub(in crate::api) async fn retry_by_filter(
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(body): Body<ByFilter>,
) -> Result<Json<RetriedByFilter>, Problem> {
    let filter = body.filter.filter()?;
    input::optional_reason(body.reason.clone())?;
    let matched = matched(&state, &filter).await?;
    let mut answer = RetriedByFilter {
        matched,
        retried: 0,
        dry_run: body.dry_run,
        success: true,
        message: nothing_changed(matched),
        more: false,
    };
    if !body.dry_run {
        let request = request(FailedJobAction::Retry, filter, body);
        let JobsChanged { jobs, more } = change(&state, requester, request).await?;
        answer.message = format!("{jobs} failed jobs are pending again{}", again(more));
        answer.retried = jobs;
        answer.more = more;
    }
    Ok(Json(answer))
}

/// `POST operations/discard`.
pub(in crate::api) async fn discard_by_filter(
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(mut body): Body<ByFilter>,
) -> Result<Json<DiscardedByFilter>, Problem> {
    let filter = body.filter.filter()?;
    if !body.dry_run {
        body.reason = Some(input::reason(body.reason.take())?);
    }
    let matched = matched(&state, &filter).await?;
    let mut answer = DiscardedByFilter {
        matched,
        discarded: 0,
        dry_run: body.dry_run,
        success: true,
        message: nothing_changed(matched),
        more: false,
    };
    if !body.dry_run {
        let request = request(FailedJobAction::Discard, filter, body);
        let JobsChanged { jobs, more } = change(&state, requester, request).await?;
        answer.message = format!("{jobs} failed jobs were discarded{}", again(more));
        answer.discarded = jobs;
        answer.more = more;
    }
    Ok(Json(answer))
}

/// Which discarded jobs come back.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RestoreBody {
    /// Not given: every job that was discarded within a day.
    ids: Option<Vec<i64>>,
    /// Only say how many.
    #[serde(default)]
    dry_run: bool,
    /// For the audit log.
    #[schemars(length(min = 3, max = 500))]
    reason: Option<String>,
}

/// Answer of undoing discards.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct Restored {
    matched: u64,
    restored: u64,
    dry_run: bool,
    success: bool,
    message: String,
}

/// `POST operations/restore`.
pub(in crate::api) async fn restore(
    extract::State(state): extract::State<ApiState>,
    requester: Requester,
    Body(RestoreBody { ids, dry_run, reason }): Body<RestoreBody>,
) -> Result<Json<Restored>, Problem> {
    let reason = input::optional_reason(reason)?;
    let counted = state.pool.read(async |c| operations::count_discarded(c, ids.as_ref()).await);
    let matched = counted.await?;
    if dry_run {
        let message = format!("{matched} discarded jobs would come back; nothing was changed");
        return Ok(Json(Restored { matched, restored: 0, dry_run, success: true, message }));
    }
    let done = operate(&state, requester, "restore", move |operator| async move {
        operations::restore(&operator, RestoreRequest { ids, reason }).await
    });
    let JobsChanged { jobs: restored, more } = done.await?;
    let message = format!("{restored} discarded jobs are failed again{}", again(more));
    Ok(Json(Restored { matched, restored, dry_run, success: true, message }))
}

fn request(action: FailedJobAction, filter: Filter, body: ByFilter) -> FailedJobsRequest {
    let ByFilter { filter: given, expected_count, reason, .. } = body;
    FailedJobsRequest { action, filter, expected_count, target: target(&given), reason }
}

/// Retries a job that is known to be failed.
pub(in crate::api) async fn retry_one(
    state: &ApiState,
    requester: Requester,
    id: i64,
) -> Result<Retried, Problem> {
    let request = one(FailedJobAction::Retry, id, None);
    let retried = change(state, requester, request).await?.jobs;
    let message = match retried {
        0 => "it was no longer failed; nothing was changed".to_owned(),
        _ => "the job is pending again".to_owned(),
    };
    Ok(Retried { retried, success: retried > 0, message })
}

/// Discards a job that is known to be failed.
pub(in crate::api) async fn discard_one(
    state: &ApiState,
    requester: Requester,
    id: i64,
    reason: String,
) -> Result<Discarded, Problem> {
    let request = one(FailedJobAction::Discard, id, Some(reason));
    let discarded = change(state, requester, request).await?.jobs;
    let message = match discarded {
        0 => "it was no longer failed; nothing was changed".to_owned(),
        _ => "the job was discarded".to_owned(),
    };
    Ok(Discarded { discarded, success: discarded > 0, message })
}

fn one(action: FailedJobAction, id: i64, reason: Option<String>) -> FailedJobsRequest {
    let target = "one failed job".to_owned();
    FailedJobsRequest { action, filter: Filter::of_job(id), expected_count: None, target, reason }
}

async fn change(
    state: &ApiState,
    requester: Requester,
    request: FailedJobsRequest,
) -> Result<JobsChanged, Problem> {
    let shared = state.clone();
    operate(state, requester, request.action.as_str(), move |operator| async move {
        operations::change_failed(&operator, &shared.tables, request).await
    })
    .await
}

/// How many failed jobs match: what a dry run says.
async fn matched(state: &ApiState, filter: &Filter) -> Result<u64, Problem> {
    let matched = state
        .pool
        .read(async |client| operations::count_failed(client, filter, &state.tables).await);
    Ok(matched.await?)
}

fn target(filter: &FilterBody) -> String {
    match serde_json::to_string(filter) {
        Ok(text) if text != "{}" => format!("failed jobs where {text}"),
        _ => "all failed jobs".to_owned(),
    }
}

fn nothing_changed(matched: u64) -> String {
    format!("{matched} failed jobs match; nothing was changed")
}

const fn again(more: bool) -> &'static str {
    if more { "; there are more, call again" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_documented_ones() {
        let message = "Queue processor started".to_owned();
        let done = IndexingChosen { success: true, message };
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
    fn the_audit_log_says_which_jobs_were_meant() {
        assert_eq!(target(&FilterBody::default()), "all failed jobs");
        let filter: FilterBody = serde_json::from_str(r#"{"table":"listings"}"#).unwrap();
        assert_eq!(target(&filter), r#"failed jobs where {"table":"listings"}"#);
    }
}
