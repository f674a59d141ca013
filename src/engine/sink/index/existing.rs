//! An existing index: its aliases, its identity, and the base of its versions.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Preparation;
use super::error::IndexError;
use super::response::{accept, read};
use crate::change::Lsn;
use crate::engine::sink::client::{Client, Verb};

/// An index as Elasticsearch describes it.
#[derive(Deserialize)]
pub(super) struct ExistingIndex {
    #[serde(default)]
    pub(super) aliases: Map<String, Value>,
    #[serde(default)]
    mappings: Value,
    #[serde(default)]
    settings: Value,
}

impl ExistingIndex {
    /// The index's uuid, which changes when an index of the same name is made anew.
    pub(super) fn uuid(&self) -> &str {
        self.settings["index"]["uuid"].as_str().unwrap_or_default()
    }

    /// The base of its versions.
    ///
    /// # Errors
    ///
    /// The index is not walferry's, or belongs to another cluster or timeline.
    pub(super) fn base(
        &self,
        index: &str,
        preparation: Preparation<'_>,
    ) -> Result<Lsn, IndexError> {
        #[derive(Deserialize)]
        struct Meta {
            system_identifier: String,
            timeline: u32,
            base_lsn: String,
        }
        let not_ours = || IndexError::NotOurs { index: index.to_owned() };
        let meta =
            Meta::deserialize(&self.mappings["_meta"]["walferry"]).map_err(|_| not_ours())?;
        let Preparation { system_identifier, timeline, .. } = preparation;
        if meta.system_identifier != system_identifier || meta.timeline != timeline {
            return Err(IndexError::OtherHistory {
                index: index.to_owned(),
                found_system: meta.system_identifier,
                found_timeline: meta.timeline,
                system: system_identifier.to_owned(),
                timeline,
            });
        }
        meta.base_lsn.parse().map_err(|_| not_ours())
    }
}

/// Reads an index; `None` if it does not exist.
pub(super) async fn read_index(
    client: &Client,
    concrete: &str,
) -> Result<Option<ExistingIndex>, IndexError> {
    const FILTER: &str = "filter_path=*.aliases,*.mappings._meta,*.settings.index.uuid";
    let response = client.send(Verb::Get, &format!("/{concrete}?{FILTER}"), None).await?;
    if response.status == 404 {
        return Ok(None);
    }
    let what = || format!("show index {concrete}");
    let mut found: std::collections::HashMap<String, ExistingIndex> =
        read(&accept(response, what)?, what)?;
    match found.remove(concrete) {
        Some(index) => Ok(Some(index)),
        // For an alias of this name, the response has the name of its index.
        None => Err(IndexError::NotOurs { index: concrete.to_owned() }),
    }
}
