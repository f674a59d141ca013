//! All ids of an index's documents, or of those with one term.
//!
//! By point in time, after a refresh, in pages. Elasticsearch's API; OpenSearch has another one.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::backoff::Backoff;
use super::client::{Answer, Client, NoAnswer, Verb};
use super::refusal::service_failure;
use super::verdict::ServiceFailure;

/// Ids in one page.
const PAGE_IDS_MAX: usize = 1000;
const RETRY: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(10) };

/// Why a listing cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error("could not list the documents of {index}: {reason}")]
    Refused { index: String, reason: String },
}

enum Fault {
    Passing,
    /// Whoever asked does not want the rest.
    Unwanted,
    Lasting(String),
}

impl From<NoAnswer> for Fault {
    fn from(_: NoAnswer) -> Self {
        Self::Passing
    }
}

/// Sends the ids to `pages` and drops it at the end. Waits out what is wrong with the service: the
/// listing then begins anew, so an id can come more than once.
///
/// # Errors
///
/// When Elasticsearch refuses the listing itself.
pub async fn list(
    client: &Client,
    index: &str,
    filter: Option<(String, String)>,
    pages: mpsc::Sender<Vec<String>>,
) -> Result<(), ListingError> {
    let query = match filter {
        Some((field, term)) => json!({ "term": { field: term } }),
        None => json!({ "match_all": {} }),
    };
    let mut attempts = 0;
    loop {
        match once(client, index, &query, &pages).await {
            Ok(()) | Err(Fault::Unwanted) => return Ok(()),
            Err(Fault::Lasting(reason)) => {
                return Err(ListingError::Refused { index: index.to_owned(), reason });
            }
            Err(Fault::Passing) => {
                attempts += 1;
                tokio::time::sleep(RETRY.delay(attempts, fastrand::f64())).await;
            }
        }
    }
}

async fn once(
    client: &Client,
    index: &str,
    query: &Value,
    pages: &mpsc::Sender<Vec<String>>,
) -> Result<(), Fault> {
    #[derive(Deserialize)]
    struct Opened {
        id: String,
    }
    expect(client.send(Verb::Post, &format!("/{index}/_refresh"), None).await?)?;
    let path = format!("/{index}/_pit?keep_alive=5m");
    let Opened { id: mut point } = read(&expect(client.send(Verb::Post, &path, None).await?)?)?;
    let result = walk(client, &mut point, query, pages).await;
    // It lapses by itself if this fails.
    drop(client.send(Verb::Delete, "/_pit", Some(&json!({ "id": point }))).await);
    result
}

async fn walk(
    client: &Client,
    point: &mut String,
    query: &Value,
    pages: &mpsc::Sender<Vec<String>>,
) -> Result<(), Fault> {
    const PATH: &str =
        "/_search?filter_path=pit_id,timed_out,_shards.failed,hits.hits._id,hits.hits.sort";
    let mut after: Option<Value> = None;
    loop {
        let mut search = json!({
            "size": PAGE_IDS_MAX, "query": query, "_source": false, "track_total_hits": false,
            "sort": [{ "_shard_doc": "asc" }], "pit": { "id": &*point, "keep_alive": "5m" },
        });
        if let Some(after) = after.take() {
            search["search_after"] = after;
        }
        let found: Found = read(&expect(client.send(Verb::Post, PATH, Some(&search)).await?)?)?;
        if found.timed_out || found.shards.failed > 0 {
            return Err(Fault::Passing);
        }
        if let Some(id) = found.pit_id {
            *point = id;
        }
        let Some(last) = found.hits.hits.last() else { return Ok(()) };
        let whole = found.hits.hits.len() == PAGE_IDS_MAX;
        after = Some(last.sort.clone());
        let ids = found.hits.hits.into_iter().map(|hit| hit.id).collect();
        pages.send(ids).await.map_err(|_| Fault::Unwanted)?;
        if !whole {
            return Ok(());
        }
    }
}

#[derive(Deserialize)]
struct Found {
    pit_id: Option<String>,
    #[serde(default)]
    timed_out: bool,
    #[serde(rename = "_shards", default)]
    shards: Shards,
    #[serde(default)]
    hits: Hits,
}

#[derive(Default, Deserialize)]
struct Shards {
    failed: u32,
}

#[derive(Default, Deserialize)]
struct Hits {
    #[serde(default)]
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
    sort: Value,
}

fn expect(answer: Answer) -> Result<Answer, Fault> {
    if answer.is_success() {
        return Ok(answer);
    }
    match service_failure(&answer) {
        // A point in time that has lapsed is a 404, and so is an index that is not there yet.
        (ServiceFailure::NotUnderstood, reason) if answer.status != 404 => {
            Err(Fault::Lasting(reason))
        }
        _ => Err(Fault::Passing),
    }
}

fn read<T: for<'de> Deserialize<'de>>(answer: &Answer) -> Result<T, Fault> {
    serde_json::from_slice(&answer.body).map_err(|error| Fault::Lasting(error.to_string()))
}
