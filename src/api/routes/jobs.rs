//! Lists of jobs, by filter and page.
//!
//! Not here: the statements (`admin::jobs::list`), one job (`job`).

use axum::Json;
use axum::extract;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use crate::admin::jobs::filter::{Filter, STATUSES};
use crate::admin::jobs::list::{self, JobPage, JobSummary, OFFSET_MAX};
use crate::admin::page::Page;
use crate::api::server::input::{self, Parameters};
use crate::api::server::problem::{Invalid, Problem};
use crate::api::server::time;
use crate::api::state::ApiState;
use crate::change::Operation;

const LIMIT_DEFAULT: i64 = 20;
const LIMIT_MAX: i64 = 200;
const TEXT_MAX: usize = 200;

/// The body of `GET jobs`.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::api) struct Jobs {
    jobs: Vec<JobSummary>,
    total: i64,
    page: i64,
    limit: i64,
    /// There only if true: `total` is as far as was counted, and there are more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    total_is_estimate: bool,
}

/// What `GET jobs` takes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes the parameters that `Parameters` takes apart")]
pub(in crate::api) struct JobsQuery {
    /// `pending`, `processing`, `completed`, `failed` or `stuck`.
    #[schemars(extend("enum" = ["pending", "processing", "completed", "failed", "stuck"]))]
    status: Option<String>,
    /// From 1.
    #[schemars(range(min = 1))]
    page: Option<i64>,
    /// 1 to 200; 20 if not given.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<i64>,
    #[schemars(length(max = 200))]
    table: Option<String>,
    /// `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.
    #[schemars(extend("enum" = OPERATIONS))]
    operation: Option<String>,
    /// A UUID.
    #[schemars(extend("format" = "uuid"))]
    record_id: Option<String>,
    #[schemars(range(min = 1))]
    id: Option<i64>,
    /// A part of the error, in any case.
    #[schemars(length(max = 200))]
    error: Option<String>,
    /// Refused at least this often.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    attempts_min: Option<i64>,
    /// ISO 8601 with an offset or `Z`.
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// ISO 8601 with an offset or `Z`.
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
}

/// A filter as it stands in a body.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct FilterBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10_000))]
    ids: Option<Vec<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = OPERATIONS))]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    record_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_min: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
}

/// `GET jobs`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
    mut parameters: Parameters,
) -> Result<Json<Jobs>, Problem> {
    let filter = filter(&mut parameters);
    let page = parameters.number("page", 1..=i64::MAX, 1);
    let limit = parameters.number("limit", 1..=LIMIT_MAX, LIMIT_DEFAULT);
    parameters.finish()?;
    let part = Page { offset: (page - 1).saturating_mul(limit), limit };
    let found =
        state.pool.read(async |client| list::page(client, &filter, &state.tables, part).await);
    let JobPage { jobs, total, total_is_estimate } = found.await?;
    if part.offset > OFFSET_MAX && part.offset < total {
        let allowed = format!("at most {}; narrow the list by a filter", OFFSET_MAX / limit);
        let errors = vec![Invalid::new("page", "is too far back", allowed)];
        return Err(Problem::invalid(errors));
    }
    Ok(Json(Jobs { jobs, total, page, limit, total_is_estimate }))
}

fn filter(parameters: &mut Parameters) -> Filter {
    let (status, stuck) = parameters.word("status", &STATUSES).unwrap_or_default();
    let id = parameters.optional_number("id", 1..=i64::MAX);
    let attempts = parameters.optional_number("attempts_min", 0..=i64::from(i32::MAX));
    let mut text = |name| parameters.given(name);
    let body = FilterBody {
        ids: id.map(|id| vec![id]),
        table: text("table"),
        operation: text("operation"),
        record_id: text("record_id"),
        error: text("error"),
        attempts_min: attempts.and_then(|attempts| i32::try_from(attempts).ok()),
        since: text("since"),
        until: text("until"),
    };
    let (filter, errors) = body.checked("");
    parameters.refuse_all(errors);
    Filter { status, stuck, ..filter }
}

const OPERATIONS: [&str; 4] = [
    Operation::Insert.as_str(),
    Operation::Update.as_str(),
    Operation::Delete.as_str(),
    Operation::Truncate.as_str(),
];

const A_MOMENT: &str = "ISO 8601 such as 2026-11-24T10:00:00Z";

impl FilterBody {
    /// As the queue knows it.
    pub(in crate::api) fn filter(&self) -> Result<Filter, Problem> {
        let (filter, errors) = self.checked("filter.");
        if errors.is_empty() { Ok(filter) } else { Err(Problem::invalid(errors)) }
    }

    /// What of it is right, and what is wrong in fields that are called `prefix` and their name.
    fn checked(&self, prefix: &str) -> (Filter, Vec<Invalid>) {
        let mut errors = Vec::new();
        let mut refuse = |field: &str, reason: &str, allowed: &str| {
            errors.push(Invalid::new(&format!("{prefix}{field}"), reason, allowed));
        };
        let mut text = |field: &str, text: &Option<String>| -> Option<String> {
            let text = text.as_ref()?;
            match input::wrong_text(text, TEXT_MAX) {
                Some((reason, allowed)) => refuse(field, reason, &allowed),
                None => return Some(text.clone()),
            }
            None
        };
        let mut filled = |field, given| text(field, given).filter(|text| !text.is_empty());
        let table = filled("table", &self.table);
        let error = filled("error", &self.error);
        let operation = filled("operation", &self.operation);
        let record_id = text("record_id", &self.record_id);
        let moments = [text("since", &self.since), text("until", &self.until)];
        if operation.as_ref().is_some_and(|word| !OPERATIONS.contains(&word.as_str())) {
            refuse("operation", "is not one", &OPERATIONS.join(", "));
        }
        let id = record_id.as_ref().map(|text| Uuid::try_parse(text));
        if let Some(Err(_)) = id {
            refuse("record_id", "is not one", input::A_UUID);
        }
        let moments = moments.map(|text| text.map(|text| time::parse(&text)));
        for (field, moment) in ["since", "until"].into_iter().zip(&moments) {
            if let Some(None) = moment {
                refuse(field, "is not a moment", A_MOMENT);
            }
        }
        if self.ids.as_ref().is_some_and(|ids| ids.len() > 10_000) {
            refuse("ids", "are too many", "at most 10000");
        }
        let [since, until] = moments.map(Option::flatten);
        let filter = Filter {
            ids: self.ids.clone(),
            table,
            operation,
            record_id: id.and_then(Result::ok),
            error,
            attempts_min: self.attempts_min,
            since,
            until,
            ..Filter::default()
        };
        (filter, errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_documented_one() {
        let job = JobSummary {
            id: 123,
            table_name: "listings".to_owned(),
            operation: "INSERT".to_owned(),
            record_id: "uuid-here".to_owned(),
            status: "completed".to_owned(),
            created_at: Some("2025-08-26T10:25:00Z".to_owned()),
            processed_at: Some("2025-08-26T10:25:05Z".to_owned()),
            retry_count: 0,
            error_message: None,
        };
        let jobs =
            Jobs { jobs: vec![job], total: 150, page: 1, limit: 20, total_is_estimate: false };
        let expected = concat!(
            r#"{"jobs":[{"id":123,"table_name":"listings","operation":"INSERT","record_id":"uuid-here","#,
            r#""status":"completed","created_at":"2025-08-26T10:25:00Z","processed_at":"2025-08-26T10:25:05Z","#,
            r#""retry_count":0,"error_message":null}],"total":150,"page":1,"limit":20}"#,
        );
        assert_eq!(serde_json::to_string(&jobs).unwrap(), expected);
    }

    #[test]
    fn a_filter_in_a_body_is_checked() {
        let filter: FilterBody =
            serde_json::from_str(r#"{"record_id":"","operation":"insert","since":"today"}"#)
                .unwrap();
        let problem = format!("{:?}", filter.filter().unwrap_err());
        for field in ["filter.record_id", "filter.operation", "filter.since"] {
            assert!(problem.contains(field), "{problem}");
        }
        assert!(serde_json::from_str::<FilterBody>(r#"{"stauts":"failed"}"#).is_err());
    }
}
