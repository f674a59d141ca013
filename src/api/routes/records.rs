//! One record: its history, its row now, its documents now, and whether they differ.
//!
//! Private columns are masked. A difference may be on its way to being mended while jobs of the
//! record are unfinished; their number is told.
//!
//! Not here: rendering (`engine::feed::render::row`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{self, Path};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use uuid::Uuid;

use super::audited::{AuditedOperation, Who, to_the_end};
use super::jobs::{self, Job};
use super::stats;
use crate::admin::jobs::filter::Filter;
use crate::admin::jobs::list;
use crate::admin::jobs::operations;
use crate::admin::pool;
use crate::api::server::input;
use crate::api::{PoolError, Problem, State};
use crate::change::{Row, TableId};
use crate::engine::document::id::DocumentId;
use crate::engine::feed::inspect;
use crate::engine::feed::inspect::InspectError;
use crate::engine::feed::render::row::{RenderedRow, render_row};
use crate::engine::sink::client::Verb;
use crate::storage::audit::AuditRequest;
use crate::storage::queue::record_id::TableKey;
use crate::storage::queue::status::Status;

/// Jobs that are shown.
const JOBS_MAX: i64 = 50;
const SETTINGS: &str = "set statement_timeout = '2s'; set lock_timeout = '1s'";

type Fields = BTreeMap<String, Box<RawValue>>;

/// The body of `GET records/{table}/{record_id}`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Record {
    table: String,
    record_id: String,
    /// The row as it is now; null if there is none.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    row: Option<Fields>,
    /// Columns whose values are not shown.
    masked: Vec<String>,
    /// Jobs of the record that are pending or processing.
    unfinished: i64,
    documents: Vec<Document>,
    /// Null where it could not be compared.
    differs: Option<bool>,
    /// Why it could not be compared.
    reason: Option<String>,
    jobs: Vec<Job>,
    jobs_total: i64,
}

/// A document as it should be, and as it is.
#[derive(Debug, Serialize, JsonSchema)]
struct Document {
    index: String,
    id: String,
    #[schemars(with = "Option<Value>")]
    expected: Option<Box<RawValue>>,
    #[schemars(with = "Option<Value>")]
    found: Option<Box<RawValue>>,
    version: Option<u64>,
    differs: bool,
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Difference {
    field: String,
    #[schemars(with = "Option<Value>")]
    expected: Option<Box<RawValue>>,
    #[schemars(with = "Option<Value>")]
    found: Option<Box<RawValue>>,
}

/// The body of `POST …/resync`.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Resynced {
    job_id: i64,
    success: bool,
    message: String,
}

/// What was found of a record.
struct Now {
    row: Option<Row>,
    documents: Vec<(DocumentId, Option<Vec<u8>>)>,
}

/// `GET records/{table}/{record_id}`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<State>,
    Path((table, record_id)): Path<(String, String)>,
) -> Result<Json<Record>, Problem> {
    let id = table_id(&state, &table)?;
    let record_id = input::record_id(&record_id)?;
    let filter = Filter::of_record(&table, record_id);
    let look = async {
        let unfinished = unfinished(&state, &filter).await?;
        let (jobs, total) = jobs::list(&state, &filter, (0, JOBS_MAX)).await?;
        Ok::<_, PoolError>((unfinished, jobs, total))
    };
    let look = pool::in_time(look).await.map_err(|error| stats::problem(&error))?;
    let (unfinished, jobs, jobs_total) = look;
    let masked = state.definition.private_columns(&table);
    let (row, documents, differs, reason) = match now(&state, id, &table, record_id).await? {
        None => (None, Vec::new(), None, Some(NO_KEY.to_owned())),
        Some(Now { row, documents }) => {
            let row = row.map(|row| visible(&row, &masked));
            match found(&state, &documents).await {
                Ok(found) => {
                    let documents = compared(&state, documents, found);
                    let differs = documents.iter().any(|document| document.differs);
                    (row, documents, Some(differs), None)
                }
                Err(reason) => (row, Vec::new(), None, Some(reason)),
            }
        }
    };
    let record_id = record_id.to_string();
    Ok(Json(Record {
        table,
        record_id,
        row,
        masked,
        unfinished,
        documents,
        differs,
        reason,
        jobs,
        jobs_total,
    }))
}

const NO_KEY: &str = "the row's key is not known: no job tells which row this id stands for";

/// `POST records/{table}/{record_id}/resync`.
pub(in crate::api) async fn resync(
    extract::State(state): extract::State<State>,
    Path((table, record_id)): Path<(String, String)>,
    who: Who,
) -> Result<Json<Resynced>, Problem> {
    let id = table_id(&state, &table)?;
    let record_id = input::record_id(&record_id)?;
    to_the_end(async move {
        let target = Some(format!("{table} {record_id}"));
        let asked = AuditRequest { action: "resync", target, reason: None };
        let trail = AuditedOperation::begin(&state, who, asked).await?;
        let client = &trail.own.session.client;
        let written = async {
            let data = known_key(&state, client, id, &table, record_id).await;
            let data = data?.map_or_else(|| json!({}), |(_, data)| data);
            Ok::<_, PoolError>(
                operations::resync(client, &table, record_id, &data.to_string()).await?,
            )
        };
        let written = written.await;
        let job_id = trail.end(written.map(|id| (id, 1))).await?;
        state.operator_requests.feed.notify_one();
        let message = format!("job {job_id} renders the record's documents anew from its row");
        Ok(Json(Resynced { job_id, success: true, message }))
    })
    .await
}

fn table_id(state: &State, name: &str) -> Result<TableId, Problem> {
    let place = state.tables.iter().position(|table| table == name);
    place.and_then(|place| u16::try_from(place).ok()).map(TableId).ok_or_else(|| {
        let detail = format!("there is no such table; there are {}", state.tables.join(", "));
        Problem::new(StatusCode::NOT_FOUND, "no_such_table", detail)
    })
}

async fn unfinished(state: &State, filter: &Filter) -> Result<i64, PoolError> {
    let lent = state.pool.lend().await?;
    let of = |status| Filter { status: Some(status), ..filter.clone() };
    let pending = list::count(&lent, &of(Status::Pending), &state.tables).await?;
    let processing = list::count(&lent, &of(Status::Processing), &state.tables).await?;
    lent.give_back();
    Ok(pending + processing)
}

/// The row and the documents that it should have; `None` where nobody knows the row's key.
async fn now(
    state: &State,
    table: TableId,
    name: &str,
    record_id: Uuid,
) -> Result<Option<Now>, Problem> {
    let look = async {
        let own = state.pool.own("walferry record", SETTINGS).await?;
        let key = known_key(state, &own.session.client, table, name, record_id).await?;
        let Some((key, _)) = key else { return Ok(None) };
        let (shapes, _) = shapes(&own.session.client, state).await?;
        let client = Arc::new(own.session.client);
        let found = render_row(client, &state.definition, shapes, table, &key).await;
        let RenderedRow { row, documents } = found.map_err(|error| match error {
            crate::engine::feed::render::read::ReadError::Rows { source, .. }
            | crate::engine::feed::render::read::ReadError::Open(source) => {
                PoolError::Query(source)
            }
            crate::engine::feed::render::read::ReadError::Unreadable(_) => PoolError::Timeout,
        })?;
        Ok::<_, PoolError>(Some(Now { row, documents }))
    };
    pool::in_time(look).await.map_err(|error| stats::problem(&error))
}

async fn shapes(
    client: &tokio_postgres::Client,
    state: &State,
) -> Result<(crate::engine::document::shape::Shapes, Vec<TableKey>), PoolError> {
    match inspect::shapes(client, &state.definition).await {
        Ok((shapes, keys)) => Ok((shapes, keys.0)),
        Err(InspectError::Catalog(source)) => Err(PoolError::Query(source)),
        Err(InspectError::Missing { .. }) => Err(PoolError::Timeout),
    }
}

/// The row's key, and `change_data` that names it. A uuid is the key; of any other the newest job
/// tells.
async fn known_key(
    state: &State,
    client: &tokio_postgres::Client,
    table: TableId,
    name: &str,
    record_id: Uuid,
) -> Result<Option<(Vec<String>, Value)>, PoolError> {
    const NEWEST: &str = "select coalesce(
                case when operation = 'UPDATE' then change_data -> 'new' else change_data end
                    ->> k.name, '') as part,
            case when operation = 'UPDATE' then change_data -> 'new' else change_data end
                    -> k.name as json
        from (select operation, change_data from public.elasticsearch_sync_queue
              where table_name = $1 and record_id = $2::text::uuid
                and operation in ('INSERT', 'UPDATE', 'DELETE')
              order by id desc limit 1) newest,
             unnest($3::text[]) with ordinality k (name, place)
        order by k.place";
    let (_, keys) = shapes(client, state).await?;
    let key = keys.get(usize::from(table.0)).cloned();
    let Some(key) = key else { return Ok(None) };
    if key.uuid {
        return Ok(Some((vec![record_id.to_string()], json!({}))));
    }
    let rows = client.query(NEWEST, &[&name, &record_id.to_string(), &key.columns]).await?;
    let mut parts = Vec::new();
    let mut new = serde_json::Map::new();
    for (row, column) in rows.iter().zip(&key.columns) {
        let text: String = row.try_get(0)?;
        // Of a key only text and numbers come as they are; what names the row is its text.
        new.insert(column.clone(), json!(text));
        parts.push(text);
    }
    let known = !parts.is_empty() && parts.len() == key.columns.len();
    Ok(known.then(|| (parts, json!({ "old": null, "new": new }))))
}

fn visible(row: &Row, masked: &[String]) -> Fields {
    let mut fields: Fields = serde_json::from_slice(row.json()).unwrap_or_default();
    for (name, value) in &mut fields {
        if masked.contains(name)
            && let Ok(mask) = to_raw_value("masked")
        {
            *value = mask;
        }
    }
    fields
}

/// What Elasticsearch has, in the order of the documents asked for; or why that is not known.
#[derive(Debug, Default, Deserialize)]
struct Found {
    #[serde(default)]
    found: bool,
    #[serde(rename = "_version")]
    version: Option<u64>,
    #[serde(rename = "_source")]
    source: Option<Box<RawValue>>,
}

async fn found(
    state: &State,
    documents: &[(DocumentId, Option<Vec<u8>>)],
) -> Result<Vec<Found>, String> {
    #[derive(Deserialize)]
    struct Answer {
        docs: Vec<Found>,
    }
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    let Some(elasticsearch) = &state.elasticsearch else {
        return Err("no Elasticsearch is configured".to_owned());
    };
    let docs: Vec<Value> = documents
        .iter()
        .map(|(document, _)| json!({ "_index": state.index(document), "_id": &*document.id }))
        .collect();
    let body = json!({ "docs": docs });
    let answer = elasticsearch.send(Verb::Post, "/_mget", Some(&body)).await;
    let answer = answer.map_err(|_| "Elasticsearch does not answer".to_owned())?;
    if !answer.is_success() {
        return Err(format!("Elasticsearch answers with status {}", answer.status));
    }
    let parsed: Answer = serde_json::from_slice(&answer.body)
        .map_err(|_| "Elasticsearch's answer does not read".to_owned())?;
    if parsed.docs.len() != documents.len() {
        return Err("Elasticsearch's answer has another number of documents".to_owned());
    }
    Ok(parsed.docs)
}

fn compared(
    state: &State,
    documents: Vec<(DocumentId, Option<Vec<u8>>)>,
    found: Vec<Found>,
) -> Vec<Document> {
    let pairs = documents.into_iter().zip(found);
    pairs
        .map(|((document, expected), found)| {
            let raw = |bytes: Vec<u8>| RawValue::from_string(String::from_utf8(bytes).ok()?).ok();
            let expected = expected.and_then(raw);
            let actual = found.source.filter(|_| found.found);
            let differences = differences(expected.as_deref(), actual.as_deref());
            Document {
                index: state.index(&document),
                id: document.id.to_string(),
                differs: expected.is_some() != actual.is_some() || !differences.is_empty(),
                differences,
                version: found.version.filter(|_| found.found),
                expected,
                found: actual,
            }
        })
        .collect()
}

/// The fields that are not the same; none where one of the two is not there at all.
fn differences(expected: Option<&RawValue>, found: Option<&RawValue>) -> Vec<Difference> {
    let (Some(expected), Some(found)) = (expected, found) else { return Vec::new() };
    if expected.get() == found.get() {
        return Vec::new();
    }
    let fields = |raw: &RawValue| serde_json::from_str::<Fields>(raw.get()).unwrap_or_default();
    let (mut expected, mut found) = (fields(expected), fields(found));
    let names: BTreeSet<String> = expected.keys().chain(found.keys()).cloned().collect();
    let mut differences = Vec::new();
    for field in names {
        let (expected, found) = (expected.remove(&field), found.remove(&field));
        if !same(expected.as_deref(), found.as_deref()) {
            differences.push(Difference { field, expected, found });
        }
    }
    differences
}

/// The same text, or the same value otherwise spaced or ordered.
fn same(expected: Option<&RawValue>, found: Option<&RawValue>) -> bool {
    let text = |raw: Option<&RawValue>| raw.map(|raw| decimal(raw.get()).to_owned());
    if text(expected) == text(found) {
        return true;
    }
    let value =
        |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let (expected, found) = (value(expected), value(found));
    expected.is_some() && expected == found && !is_number(expected.as_ref())
}

fn is_number(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_number)
}

/// A plain decimal without the zeros that say nothing: `17700.00` is `17700`. Numbers that are equal
/// only as floats stay different.
fn decimal(text: &str) -> &str {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    match plain && text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn check(expected: &str, found: &str, fields: &[&str]) {
        let (expected, found) = (raw(expected), raw(found));
        let differences = differences(Some(&expected), Some(&found));
        let names: Vec<&str> = differences.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(names, fields, "{expected} {found}");
    }

    #[test]
    fn fields_are_compared_to_the_digit() {
        check(r#"{"a":1}"#, r#"{"a":1}"#, &[]);
        check(r#"{"a":1,"b":[1, 2]}"#, r#"{"b":[1,2],"a":1}"#, &[]);
        check(r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, &["a"]);
        check(r#"{"a":17700.00,"b":10}"#, r#"{"b":10,"a":17700.0}"#, &[]);
        check(r#"{"a":10}"#, r#"{"a":1}"#, &["a"]);
        check(r#"{"a":1.00000000000000001}"#, r#"{"a":1.0}"#, &["a"]);
        check(r#"{"a":1}"#, r#"{"a":1,"b":null}"#, &["b"]);
        check(r#"{"s":{"x":1,"y":2}}"#, r#"{"s":{"y":2,"x":1}}"#, &[]);
    }
}
