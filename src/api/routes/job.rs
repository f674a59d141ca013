//! One job: what is known of it, and what may be done with it.
//!
//! Private columns are never shown: neither their old nor their new value.
//!
//! Not here: the statements (`admin::jobs::detail`, `admin::jobs::operations`).

use axum::Json;
use axum::extract::{self, Path};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use serde_json::value::RawValue;

use super::audited::Who;
use super::jobs::Job;
use super::operations;
use super::operations::{Discarded, Retried};
use super::stats;
use crate::admin::jobs::detail;
use crate::admin::jobs::detail::{ColumnChange, Detail, Image};
use crate::admin::jobs::filter::Filter;
use crate::admin::pool;
use crate::api::server::input;
use crate::api::server::input::Body;
use crate::api::server::problem::Invalid;
use crate::api::{PoolError, Problem, State};
use crate::storage::audit;
use crate::storage::audit::AuditRequest;
use crate::storage::queue::status::Status;

/// The body of `GET jobs/{id}`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct JobDetail {
    job: JobFacts,
    timing: Timing,
    /// `processing` for longer than 30 s.
    stuck: bool,
    /// By column, in alphabetical order.
    changes: Vec<Difference>,
    /// What is worth knowing of the job's data.
    notes: Vec<String>,
    actions: Actions,
}

#[derive(Debug, Serialize, JsonSchema)]
struct JobFacts {
    #[serde(flatten)]
    listed: Job,
    commit_lsn: Option<String>,
    ordinal: Option<i64>,
    xid: Option<i64>,
    started_at: Option<String>,
    next_attempt_at: Option<String>,
    epoch: Option<i64>,
}

/// Milliseconds.
#[derive(Debug, Serialize, JsonSchema)]
struct Timing {
    /// From the commit to the last attempt's start.
    #[schemars(with = "Option<f64>")]
    waited_ms: Option<Number>,
    /// From there to the end.
    #[schemars(with = "Option<f64>")]
    worked_ms: Option<Number>,
    /// From the commit to the end.
    #[schemars(with = "Option<f64>")]
    total_ms: Option<Number>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Difference {
    column: String,
    /// Any JSON, exact to the digit; where cut, the beginning of its text.
    #[schemars(with = "serde_json::Value")]
    old: Option<Box<RawValue>>,
    #[schemars(with = "serde_json::Value")]
    new: Option<Box<RawValue>>,
    changed: bool,
    old_state: &'static str,
    new_state: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Actions {
    retry: bool,
    discard: bool,
}

/// Why something is given up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Reason {
    /// 3 to 500 characters.
    reason: Option<String>,
}

/// `GET jobs/{id}`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<State>,
    Path(id): Path<String>,
) -> Result<Json<JobDetail>, Problem> {
    let id = input::job_id(&id)?;
    let look = async {
        let lent = state.pool.lend().await?;
        let found = detail::detail(&lent, id).await?;
        lent.give_back();
        Ok::<_, PoolError>(found)
    };
    let found = pool::in_time(look).await.map_err(|error| stats::problem(&error))?;
    let detail = found.ok_or_else(|| unknown(id))?;
    let private = state.definition.private_columns(&detail.shown.table_name);
    Ok(Json(describe(detail, &private)))
}

/// `POST jobs/{id}/retry`.
pub(in crate::api) async fn retry(
    extract::State(state): extract::State<State>,
    Path(id): Path<String>,
    who: Who,
) -> Result<Json<Retried>, Problem> {
    let id = input::job_id(&id)?;
    failed(&state, id).await?;
    let asked = AuditRequest { action: "retry", target: Some(format!("job {id}")), reason: None };
    operations::retry(&state, who, asked, one(id)).await.map(Json)
}

/// `POST jobs/{id}/discard`.
pub(in crate::api) async fn discard(
    extract::State(state): extract::State<State>,
    Path(id): Path<String>,
    who: Who,
    Body(body): Body<Reason>,
) -> Result<Json<Discarded>, Problem> {
    let id = input::job_id(&id)?;
    let reason = reason(body.reason)?;
    failed(&state, id).await?;
    let target = Some(format!("job {id}"));
    let asked = AuditRequest { action: "discard", target, reason: Some(reason) };
    operations::discard(&state, who, asked, one(id)).await.map(Json)
}

/// What was said to be the reason, if it says something.
pub(in crate::api) fn reason(given: Option<String>) -> Result<String, Problem> {
    let given = given.unwrap_or_default();
    audit::reason(&given).ok_or_else(|| {
        let missing = given.trim().is_empty();
        let said = if missing { "is missing" } else { "is too short or too long" };
        Problem::invalid(vec![Invalid::new("reason", said, audit::A_REASON)])
    })
}

fn one(id: i64) -> Filter {
    Filter { ids: Some(vec![id]), ..Filter::default() }
}

/// The job is there and `failed`.
async fn failed(state: &State, id: i64) -> Result<(), Problem> {
    let look = async {
        let lent = state.pool.lend().await?;
        let jobs = crate::admin::jobs::list::jobs(&lent, &one(id), &state.tables, (0, 1)).await?;
        lent.give_back();
        Ok::<_, PoolError>(jobs)
    };
    let jobs = pool::in_time(look).await.map_err(|error| stats::problem(&error))?;
    let job = jobs.first().ok_or_else(|| unknown(id))?;
    if job.status == Status::Failed.as_str() {
        return Ok(());
    }
    let detail =
        format!("job {id} is {}; only failed jobs can be retried or discarded", job.status);
    Err(Problem::new(StatusCode::CONFLICT, "not_failed", detail))
}

fn unknown(id: i64) -> Problem {
    let detail = format!("there is no job {id}; completed jobs are dropped after some days");
    Problem::new(StatusCode::NOT_FOUND, "no_such_job", detail)
}

fn describe(detail: Detail, private: &[String]) -> JobDetail {
    let milliseconds = |time: Option<f64>| time.map(stats::milliseconds);
    let is_failed = detail.shown.status == Status::Failed.as_str();
    let is_update = detail.shown.operation == "UPDATE";
    let notes = notes(&detail, is_update);
    JobDetail {
        timing: Timing {
            waited_ms: milliseconds(detail.waited_ms),
            worked_ms: milliseconds(detail.worked_ms),
            total_ms: milliseconds(detail.total_ms),
        },
        stuck: detail.stuck,
        changes: detail.columns.into_iter().map(|column| difference(column, private)).collect(),
        notes,
        actions: Actions { retry: is_failed, discard: is_failed },
        job: JobFacts {
            listed: detail.shown.into(),
            commit_lsn: detail.commit_lsn,
            ordinal: detail.ordinal,
            xid: detail.xid,
            started_at: detail.started_at,
            next_attempt_at: detail.next_attempt_at,
            epoch: detail.epoch,
        },
    }
}

fn notes(detail: &Detail, is_update: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if detail.commit_lsn.is_none() {
        notes.push("written by hand or by a re-sync: it has no place in the stream".to_owned());
    }
    if is_update && detail.columns.iter().all(|column| column.old.is_none()) {
        notes
            .push("the old row is not known: the table's replica identity was not FULL".to_owned());
    }
    notes.extend(detail.note.clone());
    notes
}

fn difference(column: ColumnChange, private: &[String]) -> Difference {
    let ColumnChange { column, old, new, changed } = column;
    let is_private = private.contains(&column);
    let (old, old_state) = shown(old, is_private);
    let (new, new_state) = shown(new, is_private);
    Difference { column, old, new, changed, old_state, new_state }
}

/// What is shown of a value, and what that is.
fn shown(image: Option<Image>, is_private: bool) -> (Option<Box<RawValue>>, &'static str) {
    let text = |text: &str| serde_json::value::to_raw_value(text).ok();
    match image {
        None => (None, "absent"),
        Some(_) if is_private => (None, "masked"),
        Some(image) if image.is_cut => (text(&image.json), "truncated"),
        Some(image) => (RawValue::from_string(image.json).ok(), "value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, old: Option<&str>, new: Option<&str>) -> ColumnChange {
        let image =
            |json: Option<&str>| json.map(|json| Image { json: json.to_owned(), is_cut: false });
        ColumnChange { column: name.to_owned(), old: image(old), new: image(new), changed: true }
    }

    #[test]
    fn private_values_are_masked_and_numbers_are_exact() {
        let text =
            |column| serde_json::to_string(&difference(column, &["email".to_owned()])).unwrap();
        let email = text(column("email", Some("\"canary\""), Some("null")));
        assert!(!email.contains("canary") && email.contains(r#""old_state":"masked""#), "{email}");
        let big = text(column("n", None, Some("12345678901234567890.10")));
        assert!(big.contains(r#""new":12345678901234567890.10"#), "{big}");
        assert!(big.contains(r#""old":null,"#) && big.contains("absent"), "{big}");
    }

    #[test]
    fn a_long_value_is_cut_and_says_so() {
        let image = Image { json: "{\"a\": \"x".to_owned(), is_cut: true };
        let (value, state) = shown(Some(image), false);
        assert_eq!((value.unwrap().get(), state), (r#""{\"a\": \"x""#, "truncated"));
    }

    #[test]
    fn a_reason_must_say_something() {
        assert_eq!(reason(Some(" a broken import ".into())).unwrap(), "a broken import");
        for wrong in [None, Some("  ".to_owned()), Some("x".to_owned()), Some("x".repeat(501))] {
            assert!(reason(wrong).is_err());
        }
    }
}
