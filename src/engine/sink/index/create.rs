//! Creates an index with its settings, mappings and `_meta`.

use serde_json::{Map, json};

use super::error::IndexError;
use super::response::accept;
use super::settings::Pipelines;
use super::{IndexSpec, Preparation};
use crate::engine::sink::client::{Client, Verb};

/// Creates an index; false if another client has created it meanwhile.
pub(super) async fn create(
    client: &Client,
    spec: &IndexSpec,
    preparation: Preparation<'_>,
    concrete: &str,
    alias: Option<&str>,
) -> Result<bool, IndexError> {
    let Preparation { generation, base, system_identifier, timeline, .. } = preparation;
    let Preparation { database_oid, database, slot, .. } = preparation;
    let mut settings = spec.settings.as_object().cloned().unwrap_or_default();
    let nested = settings.get("index").and_then(|index| index.get("gc_deletes")).is_some();
    if !nested && !settings.contains_key("gc_deletes") {
        // A second safeguard; the first is that no action older than a delete is sent after it.
        settings.entry("index.gc_deletes").or_insert_with(|| "1h".into());
    }
    let pipelines = Pipelines::of(&spec.settings).settings();
    for name in ["default_pipeline", "final_pipeline"] {
        // Nested or flat, what the definition says stays where it is.
        let is_nested = settings.get("index").is_some_and(|index| index.get(name).is_some());
        if !is_nested && !settings.contains_key(name) {
            let name = format!("index.{name}");
            let value = pipelines[&name].clone();
            settings.entry(name).or_insert(value);
        }
    }
    let mut mappings = spec.mappings.as_object().cloned().unwrap_or_default();
    let meta = mappings.entry("_meta").or_insert_with(|| json!({}));
    meta["walferry"] = json!({
        "system_identifier": system_identifier, "timeline": timeline,
        "base_lsn": base.to_string(), "generation": generation,
        "database_oid": database_oid, "database": database, "slot": slot,
    });
    let aliases: Map<_, _> = alias.map(|alias| (alias.to_owned(), json!({}))).into_iter().collect();
    let body = json!({ "settings": settings, "mappings": mappings, "aliases": aliases });
    let response = client.send(Verb::Put, &format!("/{concrete}"), Some(&body)).await?;
    if response.status == 400
        && memchr::memmem::find(&response.body, b"resource_already_exists").is_some()
    {
        return Ok(false);
    }
    accept(response, || format!("create index {concrete}"))?;
    Ok(true)
}
