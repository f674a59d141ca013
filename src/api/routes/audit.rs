//! The audit log.
//!
//! Not here: how it is written (`admin::audited`).

use std::time::SystemTime;

use axum::Json;
use axum::extract;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::admin::audit::{self, AuditLine, AuditPage};
use crate::admin::page::Page;
use crate::api::server::input::Parameters;
use crate::api::server::problem::Problem;
use crate::api::server::time;
use crate::api::state::ApiState;
use crate::storage::audit::{AuditFilter, Outcome};

const TEXT_MAX: usize = 200;
const A_MOMENT: &str = "ISO 8601 such as 2026-11-24T10:00:00Z";

/// The body of `GET audit`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Audit")]
pub(in crate::api) struct AuditList {
    entries: Vec<AuditLine>,
    total: i64,
    page: i64,
    limit: i64,
}

/// What `GET audit` takes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes the parameters that `Parameters` takes apart")]
pub(in crate::api) struct AuditQuery {
    /// From 1.
    #[schemars(range(min = 1, max = 2_000))]
    page: Option<i64>,
    /// 1 to 200; 50 if not given.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<i64>,
    #[schemars(length(max = 200))]
    actor: Option<String>,
    #[schemars(length(max = 200))]
    action: Option<String>,
    /// `started`, `done`, `denied` or `failed`.
    #[schemars(extend("enum" = ["started", "done", "denied", "failed"]))]
    result: Option<String>,
    /// ISO 8601 with an offset or `Z`.
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// ISO 8601 with an offset or `Z`.
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
}

/// What `GET audit/export` takes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes the parameters that `Parameters` takes apart")]
pub(in crate::api) struct ExportQuery {
    /// `csv` or `ndjson`; `ndjson` if not given.
    #[schemars(extend("enum" = ["csv", "ndjson"]))]
    format: Option<String>,
    #[schemars(length(max = 200))]
    actor: Option<String>,
    #[schemars(length(max = 200))]
    action: Option<String>,
    /// `started`, `done`, `denied` or `failed`.
    #[schemars(extend("enum" = ["started", "done", "denied", "failed"]))]
    result: Option<String>,
    /// ISO 8601 with an offset or `Z`.
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// ISO 8601 with an offset or `Z`.
    #[schemars(extend("format" = "date-time"))]
    until: Option<String>,
}

/// `GET audit`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
    mut parameters: Parameters,
) -> Result<Json<AuditList>, Problem> {
    let filter = filter(&mut parameters);
    let page = parameters.number("page", 1..=2_000, 1);
    let limit = parameters.number("limit", 1..=200, 50);
    parameters.finish()?;
    let part = Page { offset: (page - 1) * limit, limit };
    let found = state.pool.read(async |client| audit::page(client, &filter, part).await).await?;
    let AuditPage { lines, total } = found;
    Ok(Json(AuditList { entries: lines, total, page, limit }))
}

/// `GET audit/export`: the newest [`EXPORTED_MAX`] lines that match.
pub(in crate::api) async fn export(
    extract::State(state): extract::State<ApiState>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let filter = filter(&mut parameters);
    let write = parameters.word("format", &FORMATS).unwrap_or(FORMATS[0].1);
    parameters.finish()?;
    let all = Page { offset: 0, limit: EXPORTED_MAX };
    let found = state.pool.read(async |client| audit::page(client, &filter, all).await).await?;
    let (media_type, text) = write(&found.lines);
    Ok(([(CONTENT_TYPE, media_type)], text).into_response())
}

/// Lines as a file: its media type and its text.
type WriteLines = fn(&[AuditLine]) -> (&'static str, String);

/// The formats of an export; the first is taken where none is given.
const FORMATS: [(&str, WriteLines); 2] = [
    ("ndjson", |lines| ("application/x-ndjson", ndjson(lines))),
    ("csv", |lines| ("text/csv", csv(lines))),
];

/// Lines of one export at most; a narrower time has the others.
const EXPORTED_MAX: i64 = 10_000;

fn filter(parameters: &mut Parameters) -> AuditFilter {
    let outcomes = [Outcome::Started, Outcome::Done, Outcome::Denied, Outcome::Failed];
    let outcomes = outcomes.map(|outcome| (outcome.as_str(), outcome.as_str()));
    AuditFilter {
        actor: parameters.text("actor", TEXT_MAX),
        action: parameters.text("action", TEXT_MAX),
        result: parameters.word("result", &outcomes).map(str::to_owned),
        since: moment(parameters, "since"),
        until: moment(parameters, "until"),
    }
}

fn moment(parameters: &mut Parameters, name: &'static str) -> Option<SystemTime> {
    let text = parameters.text(name, TEXT_MAX)?;
    let moment = time::parse(&text);
    if moment.is_none() {
        parameters.refuse(name, format!("is {text:?}"), A_MOMENT);
    }
    moment
}

fn ndjson(lines: &[AuditLine]) -> String {
    lines.iter().map(|line| format!("{}\n", json!(line))).collect()
}

fn csv(lines: &[AuditLine]) -> String {
    let mut text =
        "id,at,actor,role,address,request_id,action,target,affected,result,reason\r\n".to_owned();
    for line in lines {
        let affected = line.affected.map(|rows| rows.to_string());
        let or_empty = |field: &Option<String>| field.clone().unwrap_or_default();
        let fields = [
            line.id.to_string(),
            line.at.clone(),
            line.actor.clone(),
            line.role.clone(),
            or_empty(&line.address),
            or_empty(&line.request_id),
            line.action.clone(),
            or_empty(&line.target),
            or_empty(&affected),
            line.result.clone(),
            or_empty(&line.reason),
        ];
        text.push_str(&fields.map(|field| quoted(&field)).join(","));
        text.push_str("\r\n");
    }
    text
}

/// A field as RFC 4180 has it. A text that a spreadsheet would take for a formula is kept from it by
/// an apostrophe.
fn quoted(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if is_formula { "'" } else { "" };
    match is_formula || field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{guard}{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_no_formula_and_ends_where_it_ends() {
        assert_eq!(quoted("ann"), "ann");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=cmd()"), "\"'=cmd()\"");
        assert_eq!(quoted(""), "");
    }
}
