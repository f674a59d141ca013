//! An existing index: its aliases, its identity, and the base of its versions.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Preparation;
use super::error::IndexError;
use super::response::{accept, read};
use super::shards::{SHARDS, ShardHistories};
use crate::change::Lsn;
use crate::engine::sink::client::{Client, Verb};

/// An index as Elasticsearch describes it.
#[derive(Deserialize)]
pub(super) struct ExistingIndex {
    #[serde(default)]
    pub(super) aliases: Map<String, Value>,
    #[serde(default)]
    pub(super) mappings: Value,
    #[serde(default)]
    pub(super) settings: Value,
}

impl ExistingIndex {
    /// Whether an alias of the index leads what is written to this index.
    pub(super) fn is_written_by(&self, alias: &str) -> bool {
        let found = self.aliases.get(alias);
        found.is_some_and(|found| found["is_write_index"].as_bool() != Some(false))
    }

    /// The index's uuid, which changes when an index of the same name is made anew.
    pub(super) fn uuid(&self) -> &str {
        self.settings["index"]["uuid"].as_str().unwrap_or_default()
    }

    /// The base of its versions.
    ///
    /// # Errors
    ///
    /// The index is not walferry's, or belongs to another cluster, timeline, database or
    /// slot.
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
            // Earlier versions stored none of these.
            database_oid: Option<u32>,
            #[serde(default)]
            database: String,
            slot: Option<String>,
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
        let is_of_slot = meta.slot.as_deref().is_none_or(|slot| slot == preparation.slot);
        let is_of_database = meta.database_oid.is_none_or(|oid| oid == preparation.database_oid);
        if !is_of_slot || !is_of_database {
            return Err(IndexError::OtherDatabase {
                index: index.to_owned(),
                found_database: meta.database,
                found_slot: meta.slot.unwrap_or_default(),
                database: preparation.database.to_owned(),
                slot: preparation.slot.to_owned(),
            });
        }
        meta.base_lsn.parse().map_err(|_| not_ours())
    }

    /// `_meta` with the database, the slot and these histories of shards; `None` if it has them. An
    /// index of a version that did not store them is taken for this database's.
    pub(super) fn meta_with_source(
        &self,
        preparation: Preparation<'_>,
        histories: &ShardHistories,
    ) -> Option<Value> {
        let mut meta = self.mappings["_meta"].clone();
        let own = &mut meta["walferry"];
        if own["database_oid"].is_null() || own["slot"].is_null() {
            own["database_oid"] = preparation.database_oid.into();
            own["database"] = preparation.database.into();
            own["slot"] = preparation.slot.into();
        }
        if !histories.is_empty() {
            meta[SHARDS] = json!(histories);
        }
        if meta == self.mappings["_meta"] { None } else { Some(meta) }
    }
}

/// Replaces the `_meta` of an index.
pub(super) async fn store_meta(
    client: &Client,
    concrete: &str,
    meta: &Value,
) -> Result<(), IndexError> {
    let body = json!({ "_meta": meta });
    let response = client.send(Verb::Put, &format!("/{concrete}/_mapping"), Some(&body)).await?;
    accept(response, || format!("store the database of index {concrete}")).map(drop)
}

/// Reads an index; `None` if it does not exist.
pub(super) async fn read_index(
    client: &Client,
    concrete: &str,
) -> Result<Option<ExistingIndex>, IndexError> {
    const FILTER: &str = "filter_path=*.aliases,*.mappings._meta,*.mappings._routing,\
        *.settings.index.uuid,*.settings.index.default_pipeline,*.settings.index.final_pipeline";
    let response = client.send(Verb::Get, &format!("/{concrete}?{FILTER}"), None).await?;
    // A proxy without a route answers so too, and not in JSON.
    if response.status == 404
        && serde_json::from_slice::<Map<String, Value>>(&response.body).is_ok()
    {
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
