//! Lists the ids of an index's documents, or of those that match a term.
//!
//! The listing refreshes the index, opens a point in time, and reads it in pages. This is
//! Elasticsearch's API; OpenSearch has another one.
//!
//! Not here: the state of an index that the user may not list (`dispatch`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::backoff::Backoff;
use super::bulk::parse_error;
use super::client::{Client, HttpResponse, NoResponse, Verb};
use super::service_error::service_error;
use super::verdict::{ServiceError, ServiceFailure};
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::ListedPage;

/// Ids in one page.
const PAGE_IDS_MAX: usize = 1000;
const RETRY: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(10) };

/// A listing that was requested.
#[derive(Debug)]
pub struct Listing {
    pub index: IndexId,
    /// Field and term; `None` for all documents.
    pub filter: Option<(String, String)>,
    pub pages: mpsc::Sender<ListedPage>,
    /// How often it has failed, in a row.
    pub attempts: u32,
    /// Its job is parked, so nothing reads its pages any more: it only finds out when the index can
    /// be listed.
    pub is_probe: bool,
}

/// The documents were not listed, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// Elasticsearch refuses the listing.
    #[error("could not list the documents of {index}: {reason}")]
    Refused { index: String, reason: String },
    /// The user may not read the index, or it is blocked.
    #[error(
        "the documents of {index} cannot be listed, which a TRUNCATE needs: {reason} (walferry \
         needs the privileges manage and read on it)"
    )]
    NotAuthorised { index: String, reason: String },
    /// The index does not exist.
    #[error("{0}")]
    Missing(String),
    /// The service failed.
    #[error("Elasticsearch did not answer as expected")]
    Unavailable,
}

/// Why a listing ended early.
enum ListingFailure {
    /// The service failed.
    Transient,
    /// The index does not exist.
    Missing(String),
    /// The receiver of the pages was dropped.
    Cancelled,
    /// The user may not read the index.
    NotAuthorised(String),
    /// Elasticsearch refuses the listing.
    Permanent(String),
}

impl From<NoResponse> for ListingFailure {
    fn from(_: NoResponse) -> Self {
        Self::Transient
    }
}

/// Sends the ids of the documents of `index` in pages, and an empty page at the end, after a wait if
/// it has failed before. A listing that is repeated starts again, so an id can be sent more than
/// once.
///
/// # Errors
///
/// [`ListingError`].
pub async fn list(client: &Client, index: &str, listing: &Listing) -> Result<(), ListingError> {
    let Listing { filter, pages, attempts, .. } = listing;
    if *attempts > 0 {
        tokio::time::sleep(RETRY.delay(*attempts, fastrand::f64())).await;
    }
    let query = match filter {
        Some((field, term)) => json!({ "term": { field: term } }),
        None => json!({ "match_all": {} }),
    };
    let index = index.to_owned();
    match once(client, &index, &query, pages).await {
        Ok(()) => {
            // Without a receiver the result is of no use.
            drop(pages.send(Ok(Vec::new())).await);
            Ok(())
        }
        Err(ListingFailure::Cancelled) => Ok(()),
        Err(ListingFailure::NotAuthorised(reason)) => {
            Err(ListingError::NotAuthorised { index, reason })
        }
        Err(ListingFailure::Permanent(reason)) => Err(ListingError::Refused { index, reason }),
        Err(ListingFailure::Missing(reason)) => Err(ListingError::Missing(reason)),
        Err(ListingFailure::Transient) => Err(ListingError::Unavailable),
    }
}

async fn once(
    client: &Client,
    index: &str,
    query: &Value,
    pages: &mpsc::Sender<ListedPage>,
) -> Result<(), ListingFailure> {
    #[derive(Deserialize)]
    struct PointInTime {
        id: String,
    }
    expect(client.send(Verb::Post, &format!("/{index}/_refresh"), None).await?)?;
    let path = format!("/{index}/_pit?keep_alive=5m");
    let PointInTime { id: mut point } =
        read(&expect(client.send(Verb::Post, &path, None).await?)?)?;
    let result = walk(client, &mut point, query, pages).await;
    // A point in time that is not closed expires.
    drop(client.send(Verb::Delete, "/_pit", Some(&json!({ "id": point }))).await);
    result
}

async fn walk(
    client: &Client,
    point: &mut String,
    query: &Value,
    pages: &mpsc::Sender<ListedPage>,
) -> Result<(), ListingFailure> {
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
        let found: SearchResponse =
            read(&expect(client.send(Verb::Post, PATH, Some(&search)).await?)?)?;
        if found.timed_out || found.shards.failed > 0 {
            return Err(ListingFailure::Transient);
        }
        if let Some(id) = found.pit_id {
            *point = id;
        }
        let Some(last) = found.hits.hits.last() else { return Ok(()) };
        let whole = found.hits.hits.len() == PAGE_IDS_MAX;
        after = Some(last.sort.clone());
        let ids = found.hits.hits.into_iter().map(|hit| hit.id).collect();
        pages.send(Ok(ids)).await.map_err(|_| ListingFailure::Cancelled)?;
        if !whole {
            return Ok(());
        }
    }
}

#[derive(Deserialize)]
struct SearchResponse {
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

fn expect(response: HttpResponse) -> Result<HttpResponse, ListingFailure> {
    if response.is_success() {
        return Ok(response);
    }
    let cause = parse_error(&response.body);
    let ServiceError { failure, reason } = service_error(&response);
    match cause.as_ref().map_or("", |cause| cause.kind.as_str()) {
        "index_not_found_exception" => return Err(ListingFailure::Missing(reason)),
        "cluster_block_exception" | "index_closed_exception" => {
            return Err(ListingFailure::NotAuthorised(reason));
        }
        _ => {}
    }
    if failure == ServiceFailure::NotAuthorised {
        return Err(ListingFailure::NotAuthorised(reason));
    }
    // The status is 404 for an expired point in time.
    if failure == ServiceFailure::NotUnderstood && response.status != 404 {
        return Err(ListingFailure::Permanent(reason));
    }
    Err(ListingFailure::Transient)
}

fn read<T: for<'de> Deserialize<'de>>(response: &HttpResponse) -> Result<T, ListingFailure> {
    serde_json::from_slice(&response.body)
        .map_err(|error| ListingFailure::Permanent(error.to_string()))
}
