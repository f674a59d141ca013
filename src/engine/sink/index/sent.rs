//! Whether an index has documents of a later moment than the database.
//!
//! A volume snapshot that is put back takes the database back, its timeline and its stored position
//! too, and leaves the index as it was: changes of the time after it would meet newer versions. The
//! documents that were written last show it.

use serde::Deserialize;
use serde_json::json;

use super::Preparation;
use super::error::IndexError;
use crate::change::Lsn;
use crate::engine::document::id;
use crate::engine::sink::client::{Client, Verb};

/// Documents that are read. Of those of one bulk request, any has the version of its time.
const DOCUMENTS_MAX: usize = 1000;

/// Refuses an index that is ahead of the database. Where Elasticsearch does not permit the search,
/// this is not known, and not refused.
///
/// # Errors
///
/// [`IndexError::Ahead`]; Elasticsearch does not respond.
pub(super) async fn verify_not_ahead(
    client: &Client,
    concrete: &str,
    base: Lsn,
    preparation: Preparation<'_>,
) -> Result<(), IndexError> {
    let query = json!({
        "size": DOCUMENTS_MAX, "sort": [{ "_seq_no": "desc" }], "version": true, "_source": false,
    });
    let response = client.send(Verb::Post, &format!("/{concrete}/_search"), Some(&query)).await?;
    if !response.is_success() {
        return Ok(());
    }
    let Ok(found) = serde_json::from_slice::<Found>(&response.body) else { return Ok(()) };
    let sent = found.hits.hits.iter().map(|hit| id::lsn_of(hit.version, base)).max();
    match sent {
        Some(sent) if sent > preparation.insert_lsn => Err(IndexError::Ahead {
            index: concrete.to_owned(),
            sent,
            insert_lsn: preparation.insert_lsn,
        }),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
struct Found {
    hits: NewestHits,
}

#[derive(Deserialize)]
struct NewestHits {
    hits: Vec<NewestHit>,
}

#[derive(Deserialize)]
struct NewestHit {
    #[serde(rename = "_version")]
    version: u64,
}
