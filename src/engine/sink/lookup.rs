//! Documents as Elasticsearch has them now, by their ids, and a sample of an index's ids.
//!
//! A lookup by id is in real time: it sees what no search sees before the next refresh.
//!
//! Not here: the ids of a whole index (`listing`).

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::bulk::parse_error;
use super::client::{Client, Verb};
use super::service_error::whole_service_error;
use super::verdict::{ErrorCause, ServiceError, ServiceFailure};

/// Ids of a sample: `index.max_result_window` of an index without settings.
const SAMPLE_MAX: u32 = 10_000;

/// A document, with the number that each write of it changes.
#[derive(Debug)]
pub struct FoundDocument {
    pub source: Box<RawValue>,
    pub written: WriteNumber,
}

/// Distinguishes the writes of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteNumber {
    pub primary_term: u64,
    pub seq_no: u64,
}

/// Documents could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Another attempt fails in the same way.
    #[error("the documents of index {index} cannot be read: {reason}")]
    Refused { index: String, reason: String },
    /// Another attempt may succeed.
    #[error("Elasticsearch did not answer as expected: {0}")]
    Unavailable(String),
}

/// The documents of an index with these ids, in their order; `None` where there is none.
///
/// # Errors
/// [`LookupError`].
pub async fn documents(
    client: &Client,
    index: &str,
    ids: &[&str],
) -> Result<Vec<Option<FoundDocument>>, LookupError> {
    #[derive(Deserialize)]
    struct MultiGetResponse {
        docs: Vec<MultiGetItem>,
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let body = json!({ "ids": ids });
    let path = format!("/{index}/_mget");
    let MultiGetResponse { docs } = ask(client, index, &path, &body).await?;
    if docs.len() != ids.len() {
        let reason = format!("{} documents for {} ids", docs.len(), ids.len());
        return Err(LookupError::Unavailable(reason));
    }
    docs.into_iter().map(|item| item.found(index)).collect()
}

/// A document of the answer.
#[derive(Deserialize)]
struct MultiGetItem {
    #[serde(default)]
    found: bool,
    #[serde(rename = "_primary_term", default)]
    primary_term: u64,
    #[serde(rename = "_seq_no", default)]
    seq_no: u64,
    #[serde(rename = "_source")]
    source: Option<Box<RawValue>>,
    error: Option<ErrorCause>,
}

impl MultiGetItem {
    fn found(self, index: &str) -> Result<Option<FoundDocument>, LookupError> {
        if let Some(cause) = self.error {
            return Err(refused_or_not(index, Some(&cause), cause.whole(), false));
        }
        if !self.found {
            return Ok(None);
        }
        let Some(source) = self.source else {
            let reason = "its mapping keeps no _source; verify needs it".to_owned();
            return Err(LookupError::Refused { index: index.to_owned(), reason });
        };
        let Self { primary_term, seq_no, .. } = self;
        Ok(Some(FoundDocument { source, written: WriteNumber { primary_term, seq_no } }))
    }
}

/// The ids of documents that are drawn by chance, at most this many.
///
/// # Errors
/// [`LookupError`].
pub async fn sample(client: &Client, index: &str, size: u32) -> Result<Vec<String>, LookupError> {
    #[derive(Deserialize)]
    struct SampleAnswer {
        #[serde(default)]
        hits: SampleHits,
    }
    #[derive(Default, Deserialize)]
    struct SampleHits {
        #[serde(default)]
        hits: Vec<SampledId>,
    }
    #[derive(Deserialize)]
    struct SampledId {
        #[serde(rename = "_id")]
        id: String,
    }
    let path = format!("/{index}/_search?filter_path=hits.hits._id");
    let body = json!({
        "size": size.min(SAMPLE_MAX), "_source": false, "track_total_hits": false,
        "query": { "function_score": { "query": { "match_all": {} }, "random_score": {} } },
    });
    let SampleAnswer { hits } = ask(client, index, &path, &body).await?;
    Ok(hits.hits.into_iter().map(|hit| hit.id).collect())
}

/// The answer about an index, decoded.
async fn ask<T: DeserializeOwned>(
    client: &Client,
    index: &str,
    path: &str,
    body: &serde_json::Value,
) -> Result<T, LookupError> {
    let response = client.send(Verb::Post, path, Some(body)).await;
    let response = response.map_err(|error| LookupError::Unavailable(error.reason))?;
    if response.is_success() {
        return serde_json::from_slice(&response.body)
            .map_err(|error| LookupError::Unavailable(error.to_string()));
    }
    let ServiceError { failure, reason } = whole_service_error(&response);
    let is_final = matches!(failure, ServiceFailure::NotAuthorised | ServiceFailure::NotUnderstood);
    let cause = parse_error(&response.body);
    Err(refused_or_not(index, cause.as_ref(), reason, is_final))
}

fn refused_or_not(
    index: &str,
    cause: Option<&ErrorCause>,
    reason: String,
    is_final: bool,
) -> LookupError {
    let index = index.to_owned();
    match cause.map_or("", |cause| cause.kind.as_str()) {
        "index_closed_exception" => {
            let reason = format!("it is closed; open it and verify again ({reason})");
            LookupError::Refused { index, reason }
        }
        "index_not_found_exception" | "cluster_block_exception" => {
            LookupError::Refused { index, reason }
        }
        _ if is_final => LookupError::Refused { index, reason },
        _ => LookupError::Unavailable(reason),
    }
}
