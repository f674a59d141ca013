//! One job as JSON: the answer of `GET jobs/{id}` and the output of `walferry job --json`.
//!
//! Columns that no document shows are masked: neither their old nor their new value is in the document.
//!
//! Not here: the statements (`detail`).

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Number;
use serde_json::value::RawValue;
use tokio_postgres::Client;

use super::detail::{self, ColumnChange, Image, JobDetail};
use super::list::JobSummary;
use crate::admin::figures::stats::milliseconds;
use crate::engine::document::definition::Definition;
use crate::engine::document::visible::VisibleColumns;
use crate::storage::QueueError;
use crate::storage::queue::status::Status;

/// One job. The members of `job` stand beside it as well.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "JobDetail")]
pub struct JobDocument {
    #[serde(flatten)]
    facts: JobFacts,
    job: JobFacts,
    timing: JobTiming,
    /// `processing` for longer than 30 s.
    stuck: bool,
    /// By column, in alphabetical order.
    changes: Vec<ColumnDifference>,
    /// What is worth knowing of the job's data.
    notes: Vec<String>,
    actions: AllowedActions,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
struct JobFacts {
    #[serde(flatten)]
    summary: JobSummary,
    commit_lsn: Option<String>,
    ordinal: Option<i64>,
    xid: Option<i64>,
    started_at: Option<String>,
    next_attempt_at: Option<String>,
    epoch: Option<i64>,
    /// There only if the job has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Milliseconds.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Timing")]
struct JobTiming {
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
#[schemars(rename = "Difference")]
struct ColumnDifference {
    column: String,
    /// Any JSON, exact to the digit; where cut, the beginning of its text.
    #[schemars(with = "serde_json::Value")]
    old: Option<Box<RawValue>>,
    #[schemars(with = "serde_json::Value")]
    new: Option<Box<RawValue>>,
    changed: bool,
    /// `value`, `absent`, `masked` or `truncated`.
    old_state: &'static str,
    new_state: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Actions")]
struct AllowedActions {
    retry: bool,
    discard: bool,
}

/// The job with this number; `None` where there is none.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn read(
    client: &Client,
    definition: &Definition,
    id: i64,
) -> Result<Option<JobDocument>, QueueError> {
    let found = detail::detail(client, id).await?;
    Ok(found.map(|job| {
        let visible = definition.visible_columns(&job.summary.table_name);
        describe(job, &visible)
    }))
}

fn describe(job: JobDetail, visible: &VisibleColumns) -> JobDocument {
    let is_failed = job.summary.status == Status::Failed.as_str();
    let notes = notes(&job);
    let milliseconds = |time: Option<f64>| time.map(milliseconds);
    let timing = JobTiming {
        waited_ms: milliseconds(job.waited_ms),
        worked_ms: milliseconds(job.worked_ms),
        total_ms: milliseconds(job.total_ms),
    };
    let facts = JobFacts {
        summary: job.summary,
        commit_lsn: job.commit_lsn,
        ordinal: job.ordinal,
        xid: job.xid,
        started_at: job.started_at,
        next_attempt_at: job.next_attempt_at,
        epoch: job.epoch,
        note: job.note,
    };
    JobDocument {
        job: facts.clone(),
        facts,
        timing,
        stuck: job.stuck,
        changes: job.columns.into_iter().map(|column| difference(column, visible)).collect(),
        notes,
        actions: AllowedActions { retry: is_failed, discard: is_failed },
    }
}

fn notes(job: &JobDetail) -> Vec<String> {
    let mut notes = Vec::new();
    if job.commit_lsn.is_none() {
        notes.push("written by hand or by a re-sync: it has no place in the stream".to_owned());
    }
    let is_update = job.summary.operation == "UPDATE";
    if is_update && job.columns.iter().all(|column| column.old.is_none()) {
        notes
            .push("the old row is not known: the table's replica identity was not FULL".to_owned());
    }
    notes.extend(job.note.iter().flat_map(|note| note.lines()).map(str::to_owned));
    notes
}

fn difference(column: ColumnChange, visible: &VisibleColumns) -> ColumnDifference {
    let ColumnChange { column, old, new, changed } = column;
    let is_private = !visible.shows(&column);
    let (old, old_state) = value_and_state(old, is_private);
    let (new, new_state) = value_and_state(new, is_private);
    ColumnDifference { column, old, new, changed, old_state, new_state }
}

fn value_and_state(
    image: Option<Image>,
    is_private: bool,
) -> (Option<Box<RawValue>>, &'static str) {
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
    use crate::engine::document::parse;

    fn listings() -> VisibleColumns {
        parse::parse(None).unwrap().visible_columns("listings")
    }

    fn column(name: &str, old: Option<&str>, new: Option<&str>) -> ColumnChange {
        let image =
            |json: Option<&str>| json.map(|json| Image { json: json.to_owned(), is_cut: false });
        ColumnChange { column: name.to_owned(), old: image(old), new: image(new), changed: true }
    }

    #[test]
    fn private_values_are_masked_and_numbers_are_exact() {
        let profiles = parse::parse(None).unwrap().visible_columns("profiles");
        let text = |column| serde_json::to_string(&difference(column, &profiles)).unwrap();
        let email = text(column("email", Some("\"canary\""), Some("null")));
        assert!(!email.contains("canary") && email.contains(r#""old_state":"masked""#), "{email}");
        let big = text(column("n", None, Some("12345678901234567890.10")));
        assert!(big.contains(r#""new":12345678901234567890.10"#), "{big}");
        assert!(big.contains(r#""old":null,"#) && big.contains("absent"), "{big}");
    }

    #[test]
    fn a_long_value_is_cut_and_says_so() {
        let image = Image { json: "{\"a\": \"x".to_owned(), is_cut: true };
        let (value, state) = value_and_state(Some(image), false);
        assert_eq!((value.unwrap().get(), state), (r#""{\"a\": \"x""#, "truncated"));
    }

    fn job() -> JobDetail {
        JobDetail {
            summary: JobSummary {
                id: 7,
                table_name: "listings".to_owned(),
                operation: "UPDATE".to_owned(),
                record_id: "c0000000-0000-4000-8000-000000000001".to_owned(),
                status: "failed".to_owned(),
                created_at: None,
                processed_at: None,
                retry_count: 3,
                error_message: Some("refused".to_owned()),
            },
            note: None,
            commit_lsn: Some("0/10".to_owned()),
            ordinal: Some(1),
            xid: Some(2),
            started_at: None,
            next_attempt_at: None,
            epoch: Some(1),
            waited_ms: Some(1.5),
            worked_ms: None,
            total_ms: None,
            stuck: false,
            columns: vec![column("price", Some("1"), Some("12345678901234567890.10"))],
        }
    }

    #[test]
    fn every_member_of_the_job_stands_beside_it_too() {
        let text = serde_json::to_string(&describe(job(), &listings())).unwrap();
        assert!(text.contains(r#""new":12345678901234567890.10"#), "{text}");
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let job = document["job"].as_object().unwrap();
        assert!(job.len() > 12, "{document}");
        for (name, value) in job {
            assert_eq!(document[name], *value, "{name}");
        }
        assert_eq!(document.get("note"), None);
    }

    #[test]
    fn a_note_is_a_member_and_among_the_notes() {
        let job = JobDetail { note: Some("a\nb".to_owned()), commit_lsn: None, ..job() };
        let document = serde_json::to_value(describe(job, &listings())).unwrap();
        assert_eq!(document["note"], "a\nb");
        assert_eq!(document["job"]["note"], "a\nb");
        let notes = document["notes"].as_array().unwrap();
        assert_eq!(notes.len(), 3, "{document}");
        assert_eq!(notes[1..], ["a", "b"]);
    }
}
