//! What must be true once walferry has caught up, computed without walferry.
//!
//! Documents: SQL over the rows that stand in the tables now, compared with every `_source` of
//! every index, as text. Receipts: test-only triggers witness each row change inside the
//! transaction that makes it; the queue must hold the same changes, in the same order per record.
//!
//! Not here: making changes (`workload`) and starting servers (`support`).

use std::collections::BTreeMap;

use tokio_postgres::Client;

pub(crate) mod json;
mod selfcheck;

use json::{Json, differences};

/// The four indices, without prefix.
pub(crate) const INDICES: [&str; 4] = ["listings", "profiles", "categories", "ai_suggestions"];

/// Problems told of at most, of each kind.
const PROBLEMS_MAX: usize = 10;
/// Documents fetched by one request.
const PAGE: usize = 1000;

/// A document as Elasticsearch has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) version: u64,
    pub(crate) source: Json,
}

/// Where the documents are.
#[derive(Clone, Debug)]
pub(crate) struct Indices {
    url: String,
    prefix: String,
    http: reqwest::Client,
}

impl Indices {
    /// `url` is the server's, `prefix` stands before every index name.
    pub(crate) fn new(url: &str, prefix: &str) -> Indices {
        let url = url.trim_end_matches('/').to_owned();
        Indices { url, prefix: prefix.to_owned(), http: reqwest::Client::new() }
    }

    /// The present state of some documents, read in real time (searches lag by a refresh).
    pub(crate) async fn present(&self, index: &str, ids: &[String]) -> BTreeMap<String, Found> {
        let ids = ids.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(",");
        let path = format!("{}{index}/_mget", self.prefix);
        let answer = self.post(&path, format!("{{\"ids\":[{ids}]}}")).await;
        let found = answer.get("docs").elements();
        found.iter().filter(|d| d.get("found") == &Json::Bool(true)).map(document).collect()
    }

    /// All documents of `index`, searchable or not yet; none where the index is absent.
    pub(crate) async fn all(&self, index: &str) -> BTreeMap<String, Found> {
        if self.try_post(&format!("{}{index}/_refresh", self.prefix), String::new()).await.is_none()
        {
            return BTreeMap::new();
        }
        let mut path = format!("{}{index}/_search?scroll=1m", self.prefix);
        let mut body = format!(r#"{{"size":{PAGE},"sort":["_doc"],"version":true}}"#);
        let mut documents = BTreeMap::new();
        loop {
            let answer = self.post(&path, body).await;
            let hits = answer.get("hits").get("hits").elements();
            documents.extend(hits.iter().map(document));
            let scroll = answer.get("_scroll_id").text();
            if hits.is_empty() {
                self.delete_scroll(scroll).await;
                return documents;
            }
            body = format!(r#"{{"scroll":"1m","scroll_id":{scroll:?}}}"#);
            "_search/scroll".clone_into(&mut path);
        }
    }

    async fn post(&self, path: &str, body: String) -> Json {
        let answer = self.try_post(path, body).await;
        answer.unwrap_or_else(|| panic!("POST {path}: there is no such index"))
    }

    async fn try_post(&self, path: &str, body: String) -> Option<Json> {
        let request = self.http.post(format!("{}/{path}", self.url)).body(body);
        let answer = request.header("content-type", "application/json").send().await;
        let answer = answer.expect("Elasticsearch answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("Elasticsearch answers in full");
        match status {
            404 => None,
            200..300 => Some(Json::parse(&text)),
            _ => panic!("POST {path}: {status} {text}"),
        }
    }

    async fn delete_scroll(&self, scroll: &str) {
        let request = self.http.delete(format!("{}/_search/scroll/{scroll}", self.url));
        request.send().await.expect("Elasticsearch answers");
    }
}

fn document(hit: &Json) -> (String, Found) {
    let version = hit.get("_version").number().expect("a found document has a version");
    (hit.get("_id").text().to_owned(), Found { version, source: hit.get("_source").clone() })
}

/// Adds the witness triggers to the source tables.
pub(crate) async fn install(database: &Client) {
    database.batch_execute(include_str!("install.sql")).await.expect("the witness installs");
}

/// The documents that `index` must hold now.
pub(crate) async fn expected(database: &Client, index: &str) -> BTreeMap<String, Json> {
    database.batch_execute("set timezone = 'UTC'").await.expect("the database answers");
    let rows = database.query(include_str!("documents.sql"), &[&index]).await;
    let rows = rows.expect("the oracle's query runs");
    rows.iter().map(|row| (row.get(1), Json::parse(row.get(2)))).collect()
}

/// Every way in which the indices differ from the tables, a few of each index; empty when equal.
pub(crate) async fn document_problems(database: &Client, indices: &Indices) -> Vec<String> {
    let mut problems = Vec::new();
    for index in INDICES {
        let expected = expected(database, index).await;
        let found = indices.all(index).await;
        let mut lines = Vec::new();
        for (id, document) in &expected {
            match found.get(id) {
                None => lines.push(format!("{index}/{id}: missing")),
                Some(other) => {
                    let differences = differences(document, &other.source);
                    if !differences.is_empty() {
                        lines.push(format!("{index}/{id}: {}", differences.join("; ")));
                    }
                }
            }
        }
        let extra = found.keys().filter(|id| !expected.contains_key(*id));
        lines.extend(extra.map(|id| format!("{index}/{id}: must not exist")));
        if lines.len() > PROBLEMS_MAX {
            let more = lines.len() - PROBLEMS_MAX;
            lines.truncate(PROBLEMS_MAX);
            lines.push(format!("{index}: and {more} more"));
        }
        problems.append(&mut lines);
    }
    problems
}

/// How far the queue is, beside what was witnessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) witnessed: i64,
    pub(crate) recorded: i64,
    pub(crate) completed: i64,
}

impl Progress {
    /// Whether each witnessed change has a completed job.
    pub(crate) fn is_done(self) -> bool {
        self.recorded >= self.witnessed && self.completed == self.recorded
    }
}

/// Counts the witnessed changes and the jobs; an error where the server is away.
pub(crate) async fn progress(database: &Client) -> Result<Progress, tokio_postgres::Error> {
    let sql = "select (select count(*) from oracle.change), count(*),
                      count(*) filter (where status = 'completed') from elasticsearch_sync_queue";
    let row = database.query_one(sql, &[]).await?;
    Ok(Progress { witnessed: row.get(0), recorded: row.get(1), completed: row.get(2) })
}

/// Every way in which the queue differs from what was witnessed; empty when each change has
/// exactly one job with equal operation, key and data, in order per record.
pub(crate) async fn audit_problems(database: &Client) -> Vec<String> {
    let rows =
        database.query(include_str!("audit.sql"), &[]).await.expect("the oracle's query runs");
    rows.iter().map(audit_problem).collect()
}

fn audit_problem(row: &tokio_postgres::Row) -> String {
    let (table, record, n): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
    let (witnessed, recorded): (Option<String>, Option<String>) = (row.get(3), row.get(4));
    let (expected, found): (Option<String>, Option<String>) = (row.get(5), row.get(6));
    let place = format!("change {n} of {table} {record}");
    match (witnessed, recorded) {
        (None, Some(operation)) => format!("{place}: {operation} has a job but was not made"),
        (Some(operation), None) => format!("{place}: {operation} has no job"),
        (Some(one), Some(other)) if one != other => format!("{place}: {one} recorded as {other}"),
        _ => {
            let parse = |text: Option<String>| Json::parse(&text.unwrap_or_default());
            let differences = differences(&parse(expected), &parse(found)).join("; ");
            format!("{place}: change_data differs: {differences}")
        }
    }
}
