//! A document as it should be beside the one that Elasticsearch has. Pure.
//!
//! Values are compared as text: a number is the same only if all its digits are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine::document::compare::{Fields, differing_fields};

/// A document as it should be, and as it is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Document")]
pub struct ComparedDocument {
    pub index: String,
    pub id: String,
    #[schemars(with = "Option<Value>")]
    pub expected: Option<Box<RawValue>>,
    #[schemars(with = "Option<Value>")]
    pub found: Option<Box<RawValue>>,
    pub version: Option<u64>,
    pub differs: bool,
    pub differences: Vec<FieldDifference>,
}

/// A field that is not the same.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Difference")]
pub struct FieldDifference {
    pub field: String,
    #[schemars(with = "Option<Value>")]
    pub expected: Option<Box<RawValue>>,
    #[schemars(with = "Option<Value>")]
    pub found: Option<Box<RawValue>>,
}

/// A document of the answer to `_mget`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct StoredDocument {
    #[serde(default)]
    found: bool,
    #[serde(rename = "_version")]
    version: Option<u64>,
    #[serde(rename = "_source")]
    source: Option<Box<RawValue>>,
}

impl StoredDocument {
    /// The same with another source, as people may see it.
    pub(crate) fn map_source(self, shown: impl FnOnce(Box<RawValue>) -> Box<RawValue>) -> Self {
        Self { source: self.source.map(shown), ..self }
    }
}

/// Compares the document `id` of `index`. `expected` is its JSON, `None` where there should be none.
pub(crate) fn compare(
    index: String,
    id: String,
    expected: Option<Vec<u8>>,
    stored: StoredDocument,
) -> ComparedDocument {
    let raw = |bytes: Vec<u8>| RawValue::from_string(String::from_utf8(bytes).ok()?).ok();
    let expected = expected.and_then(raw);
    let version = stored.version.filter(|_| stored.found);
    let found = stored.source.filter(|_| stored.found);
    let differences = differences(expected.as_deref(), found.as_deref());
    let differs = expected.is_some() != found.is_some() || !differences.is_empty();
    ComparedDocument { index, id, expected, found, version, differs, differences }
}

/// The fields that are not the same; none where one of the two is not there at all.
fn differences(expected: Option<&RawValue>, found: Option<&RawValue>) -> Vec<FieldDifference> {
    let (Some(expected), Some(found)) = (expected, found) else { return Vec::new() };
    let fields = |raw: &RawValue| serde_json::from_str::<Fields>(raw.get()).unwrap_or_default();
    let names = differing_fields(expected.get(), found.get());
    let (mut expected, mut found) = (fields(expected), fields(found));
    let difference = |field: String| {
        let (expected, found) = (expected.remove(&field), found.remove(&field));
        FieldDifference { field, expected, found }
    };
    names.into_iter().map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_not_there_differs() {
        let stored = |json: &str| serde_json::from_str::<StoredDocument>(json).unwrap();
        let compared = |expected: Option<&str>, json: &str| {
            let expected = expected.map(|text| text.as_bytes().to_vec());
            compare("i".to_owned(), "7".to_owned(), expected, stored(json))
        };
        let there = r#"{"found":true,"_version":3,"_source":{"a":1}}"#;
        assert!(!compared(Some(r#"{"a":1}"#), there).differs);
        assert!(compared(None, there).differs);
        assert!(compared(Some(r#"{"a":1}"#), r#"{"found":false}"#).differs);
        assert!(!compared(None, r#"{"found":false}"#).differs);
        assert_eq!(compared(None, there).version, Some(3));
    }
}
