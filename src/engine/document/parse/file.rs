//! The TOML structure of a definition; names are not checked yet.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The keys `table` and `index` of a configuration file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DefinitionFile {
    #[serde(default)]
    pub(super) table: Vec<RawTable>,
    #[serde(default)]
    pub(super) index: Vec<RawIndex>,
}

/// `[[table]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTable {
    pub(super) name: String,
    #[serde(default = "public")]
    pub(super) schema: String,
    pub(super) parent: Option<String>,
    pub(super) label: Option<String>,
}

/// `[[index]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIndex {
    pub(super) name: String,
    #[serde(default)]
    pub(super) settings: serde_json::Map<String, Value>,
    #[serde(default)]
    pub(super) mappings: serde_json::Map<String, Value>,
    pub(super) source: Vec<RawSource>,
}

/// `[[index.source]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSource {
    pub(super) table: String,
    #[serde(default)]
    pub(super) id_prefix: String,
    #[serde(default)]
    pub(super) include: BTreeMap<String, Vec<Value>>,
    #[serde(default = "yes")]
    pub(super) columns: bool,
    #[serde(default)]
    pub(super) except: Vec<String>,
    pub(super) filter: Option<RawFilter>,
    #[serde(default)]
    pub(super) field: Vec<RawField>,
}

/// `filter` of a source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFilter {
    pub(super) field: String,
    pub(super) term: String,
}

/// `[[index.source.field]]`: exactly one of the optional keys is set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawField {
    pub(super) name: String,
    pub(super) column: Option<String>,
    pub(super) constant: Option<Value>,
    pub(super) geo: Option<RawGeo>,
    pub(super) embed: Option<RawEmbed>,
    pub(super) path: Option<RawPath>,
    pub(super) suggest: Option<RawSuggest>,
}

/// `geo` of a field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGeo {
    pub(super) lat: String,
    pub(super) lon: String,
}

/// `embed` of a field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEmbed {
    pub(super) table: String,
    pub(super) by: String,
    pub(super) columns: Vec<String>,
    pub(super) path: Option<String>,
}

/// `path` of a field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPath {
    pub(super) table: String,
    pub(super) start: String,
}

/// `suggest` of a field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSuggest {
    pub(super) input: Vec<String>,
    pub(super) weight: u32,
}

impl RawTable {
    /// `schema.name`.
    pub(super) fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

fn public() -> String {
    "public".to_owned()
}

const fn yes() -> bool {
    true
}
