//! A document as it should be beside the one that Elasticsearch has. Pure.
//!
//! Values are compared as text: a number is the same only if all its digits are.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A row or a document, by column or field.
pub(crate) type Fields = BTreeMap<String, Box<RawValue>>;

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
    if expected.get() == found.get() {
        return Vec::new();
    }
    let fields = |raw: &RawValue| serde_json::from_str::<Fields>(raw.get()).unwrap_or_default();
    let mut expected = fields(expected);
    let mut found = fields(found);
    let names: BTreeSet<String> = expected.keys().chain(found.keys()).cloned().collect();
    let mut differences = Vec::new();
    for field in names {
        let expected = expected.remove(&field);
        let found = found.remove(&field);
        if !is_same(expected.as_deref(), found.as_deref()) {
            differences.push(FieldDifference { field, expected, found });
        }
    }
    differences
}

/// The same text, or the same value with other spaces or in another order.
fn is_same(expected: Option<&RawValue>, found: Option<&RawValue>) -> bool {
    let text = |raw: Option<&RawValue>| raw.map(|raw| decimal(raw.get()).to_owned());
    if text(expected) == text(found) {
        return true;
    }
    let value =
        |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let expected = value(expected);
    expected.is_some() && expected == value(found) && !expected.is_some_and(|v| v.is_number())
}

/// A plain decimal without trailing zeros: `17700.00` is `17700`. Numbers that are equal only as
/// floats stay different.
fn decimal(text: &str) -> &str {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    match plain && text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn check(expected: &str, found: &str, fields: &[&str]) {
        let (expected, found) = (raw(expected), raw(found));
        let differences = differences(Some(&expected), Some(&found));
        let names: Vec<&str> = differences.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(names, fields, "{expected} {found}");
    }

    #[test]
    fn fields_are_compared_to_the_digit() {
        check(r#"{"a":1}"#, r#"{"a":1}"#, &[]);
        check(r#"{"a":1,"b":[1, 2]}"#, r#"{"b":[1,2],"a":1}"#, &[]);
        check(r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, &["a"]);
        check(r#"{"a":17700.00,"b":10}"#, r#"{"b":10,"a":17700.0}"#, &[]);
        check(r#"{"a":10}"#, r#"{"a":1}"#, &["a"]);
        check(r#"{"a":1.00000000000000001}"#, r#"{"a":1.0}"#, &["a"]);
        check(r#"{"a":1}"#, r#"{"a":1,"b":null}"#, &["b"]);
        check(r#"{"s":{"x":1,"y":2}}"#, r#"{"s":{"y":2,"x":1}}"#, &[]);
    }

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
