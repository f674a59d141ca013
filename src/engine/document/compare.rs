//! Whether two documents are the same, as JSON: field by field, values to the last digit. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_json::value::RawValue;

/// A row or a document, by column or field.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// The fields that two documents do not have in common; none if the documents are the same.
#[must_use]
pub fn differing_fields(expected: &str, found: &str) -> Vec<String> {
    if expected == found {
        return Vec::new();
    }
    let fields = |json| serde_json::from_str::<Fields>(json).unwrap_or_default();
    let expected = fields(expected);
    let found = fields(found);
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let mut differing = Vec::new();
    for name in names {
        if !is_same(expected.get(name).map(|raw| &**raw), found.get(name).map(|raw| &**raw)) {
            differing.push(name.clone());
        }
    }
    differing
}

/// The same text, or the same value with other spaces or in another order.
#[must_use]
pub fn is_same(expected: Option<&RawValue>, found: Option<&RawValue>) -> bool {
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

    #[track_caller]
    fn check(expected: &str, found: &str, fields: &[&str]) {
        assert_eq!(differing_fields(expected, found), fields, "{expected} {found}");
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
}
