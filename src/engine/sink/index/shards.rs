//! Whether the shards of an index are those that walferry has written to.
//!
//! Elasticsearch gives a shard a new history when an empty or a stale copy of it is allocated: the
//! index keeps its name, its uuid, its mapping and its aliases, and has lost documents. The histories
//! are stored in the index's `_meta`, which such a loss leaves as it is.
//!
//! Not here: what follows (`presence`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::error::IndexError;
use super::response::read;
use crate::engine::sink::client::{Client, Verb};

/// The history of each primary shard, by its number.
pub type ShardHistories = BTreeMap<String, String>;

/// Their member of `_meta`.
pub(super) const SHARDS: &str = "walferry_shards";

const FILTER: &str = "level=shards&filter_path=indices.*.shards.*.routing.primary,\
    indices.*.shards.*.commit.user_data.history_uuid";

/// The histories of the primary shards that are allocated. Without the privilege to read them there
/// are none.
///
/// # Errors
///
/// Elasticsearch does not respond.
pub(super) async fn histories(
    client: &Client,
    concrete: &str,
) -> Result<ShardHistories, IndexError> {
    let path = format!("/{concrete}/_stats/docs?{FILTER}");
    let response = client.send(Verb::Get, &path, None).await?;
    if !response.is_success() {
        return Ok(ShardHistories::new());
    }
    let what = || format!("show the shards of index {concrete}");
    Ok(primaries(&read::<ShardStats>(&response, what)?))
}

/// Those that `_meta` has.
pub(super) fn stored(mappings: &Value) -> ShardHistories {
    let stored = &mappings["_meta"][SHARDS];
    ShardHistories::deserialize(stored).unwrap_or_default()
}

/// The shards whose history is another than the stored one, as a part of a sentence.
pub(super) fn lost(stored: &ShardHistories, found: &ShardHistories) -> Option<String> {
    let lost: Vec<&str> = stored
        .iter()
        .filter(|(shard, history)| found.get(*shard).is_some_and(|now| now != *history))
        .map(|(shard, _)| shard.as_str())
        .collect();
    if lost.is_empty() { None } else { Some(lost.join(", ")) }
}

#[derive(Default, Deserialize)]
struct ShardStats {
    #[serde(default)]
    indices: BTreeMap<String, IndexStats>,
}

#[derive(Deserialize)]
struct IndexStats {
    #[serde(default)]
    shards: BTreeMap<String, Vec<ShardCopy>>,
}

#[derive(Deserialize)]
struct ShardCopy {
    #[serde(default)]
    routing: Routing,
    #[serde(default)]
    commit: ShardCommit,
}

#[derive(Default, Deserialize)]
struct Routing {
    #[serde(default)]
    primary: bool,
}

#[derive(Default, Deserialize)]
struct ShardCommit {
    #[serde(default)]
    user_data: UserData,
}

#[derive(Default, Deserialize)]
struct UserData {
    history_uuid: Option<String>,
}

fn primaries(stats: &ShardStats) -> ShardHistories {
    let shards = stats.indices.values().flat_map(|index| &index.shards);
    let primary = |copies: &[ShardCopy]| {
        let primary = copies.iter().find(|copy| copy.routing.primary)?;
        primary.commit.user_data.history_uuid.clone()
    };
    shards.filter_map(|(shard, copies)| Some((shard.clone(), primary(copies)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_history_of_a_shard_is_a_loss() {
        let answer = r#"{"indices":{"a-000001":{"shards":{
            "0":[{"routing":{"primary":false},"commit":{"user_data":{"history_uuid":"x"}}},
                 {"routing":{"primary":true},"commit":{"user_data":{"history_uuid":"h0"}}}],
            "1":[{"routing":{"primary":true},"commit":{"user_data":{"history_uuid":"h1"}}}]}}}}"#;
        let found = primaries(&serde_json::from_str(answer).unwrap());
        let histories = |pairs: &[(&str, &str)]| -> ShardHistories {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        assert_eq!(found, histories(&[("0", "h0"), ("1", "h1")]));
        assert_eq!(lost(&found, &found), None);
        // A shard without a node says nothing, and a shard that is not stored neither.
        assert_eq!(lost(&found, &histories(&[("1", "h1"), ("2", "h2")])), None);
        assert_eq!(lost(&found, &histories(&[("0", "new")])), Some("0".to_owned()));
    }
}
