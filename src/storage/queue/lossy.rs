//! What the audit row holds where `jsonb` does not take the change as it is: values cut to size
//! and hash, or escaped into text, and a note that says so. Pure.
//!
//! The document is built from the change itself, so nothing here reaches Elasticsearch.

use super::copy::Altered;
use crate::change::{Change, Operation, Row};
use crate::value;

/// A change of more than this is cut before it is tried: jsonb ends at 256 MiB.
pub(in crate::storage) const CHANGE_BYTES_MAX: usize = 200 << 20;

/// Of a change that is too large, values over this are cut.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// What stays even where all else is cut.
const SHORT_BYTES_MAX: usize = 100;

/// The remedies, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::storage) enum Remedy {
    /// Values over 1 MiB become size and hash.
    Cut,
    /// So they do, and every other value that jsonb may parse becomes text.
    Escape,
    /// Every value but short plain ones, as keys are, becomes size and hash.
    Digest,
}

impl Remedy {
    /// What to try when the server refuses the outcome of this one.
    pub(in crate::storage) const fn next(tried: Option<Self>) -> Option<Self> {
        match tried {
            None | Some(Self::Cut) => Some(Self::Escape),
            Some(Self::Escape) => Some(Self::Digest),
            Some(Self::Digest) => None,
        }
    }
}

/// Bytes of the change's rows as text.
pub(in crate::storage) fn text_bytes(change: &Change) -> usize {
    let of = |row: &Option<Row>| row.as_ref().map_or(0, |row| row.json().len());
    of(&change.old) + of(&change.new)
}

/// `change_data` after a remedy. `cause` is an SQLSTATE or a word for the note.
pub(in crate::storage) fn alter(change: &Change, remedy: Remedy, cause: &str) -> Altered {
    let what = match remedy {
        Remedy::Cut => "values over 1 MiB are given as size and hash",
        Remedy::Escape => "values are given as escaped text",
        Remedy::Digest => "all but short values are given as size and hash",
    };
    let note = format!("change_data is not the row itself ({cause}): {what}");
    let mut json = String::new();
    let row = |row: &Option<Row>, json: &mut String| match row {
        Some(row) => altered_row(row, remedy, json),
        None => json.push_str("null"),
    };
    match change.operation {
        Operation::Insert => row(&change.new, &mut json),
        Operation::Delete => row(&change.old, &mut json),
        Operation::Truncate => json.push_str("{}"),
        Operation::Update => {
            json.push_str("{\"old\": ");
            row(&change.old, &mut json);
            json.push_str(", \"new\": ");
            row(&change.new, &mut json);
            json.push('}');
        }
    }
    Altered { change_data: json.into(), note }
}

fn altered_row(row: &Row, remedy: Remedy, json: &mut String) {
    json.push('{');
    let mut first = true;
    for (index, name) in row.columns().names().iter().enumerate() {
        let Some(value) = row.at(index) else { continue };
        if !first {
            json.push_str(", ");
        }
        first = false;
        push_string(name, json);
        json.push_str(": ");
        let short = value.len() <= SHORT_BYTES_MAX && is_harmless(value);
        if value.len() > VALUE_BYTES_MAX || (remedy == Remedy::Digest && !short) {
            digest(value, json);
        } else if remedy == Remedy::Escape && !is_harmless(value) {
            push_string(&String::from_utf8_lossy(value), json);
        } else {
            json.push_str(&String::from_utf8_lossy(value));
        }
    }
    json.push('}');
}

/// A literal, a number of moderate length without an exponent, or a string without escapes.
fn is_harmless(value: &[u8]) -> bool {
    match value {
        b"null" | b"true" | b"false" => true,
        [b'"', text @ .., b'"'] => !text.contains(&b'\\'),
        number => {
            number.len() <= SHORT_BYTES_MAX
                && number.iter().all(|byte| byte.is_ascii_digit() || b"+-.".contains(byte))
        }
    }
}

fn digest(bytes: &[u8], json: &mut String) {
    let mut digest = Vec::new();
    value::write_digest(bytes, &mut digest);
    json.push_str(&String::from_utf8_lossy(&digest));
}

fn push_string(text: &str, json: &mut String) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Lsn, Position, TableId};

    fn insert(row: &str) -> Change {
        Change {
            position: Position { commit_lsn: Lsn(1), ordinal: 0 },
            xid: 1,
            committed_at: 0,
            table: TableId(0),
            operation: Operation::Insert,
            old: None,
            new: Some(Row::parse(row, None).unwrap()),
            incomplete: false,
            note: None,
        }
    }

    #[test]
    fn only_values_that_jsonb_may_refuse_become_text() {
        let check = |row: &str, expected: &str| {
            let altered = alter(&insert(row), Remedy::Escape, "22P05");
            assert_eq!(String::from_utf8(altered.change_data.to_vec()).unwrap(), expected);
        };
        check(r#"{"a": 1.5, "b": null, "c": "x"}"#, r#"{"a": 1.5, "b": null, "c": "x"}"#);
        check(r#"{"a": "\u0000"}"#, r#"{"a": "\"\\u0000\""}"#);
        check(r#"{"a": 1e400000}"#, r#"{"a": "1e400000"}"#);
        check(r#"{"a": {"b": [1]}}"#, r#"{"a": "{\"b\": [1]}"}"#);
    }

    #[test]
    fn large_values_become_size_and_hash() {
        let row = format!(r#"{{"id": 1, "a": "{}"}}"#, "x".repeat(VALUE_BYTES_MAX));
        let altered = alter(&insert(&row), Remedy::Cut, "too large");
        let text = String::from_utf8(altered.change_data.to_vec()).unwrap();
        assert!(text.starts_with(r#"{"id": 1, "a": {"bytes": 1048578, "sha256": ""#), "{text}");
        assert!(altered.note.contains("too large"));
    }

    #[test]
    fn the_last_remedy_keeps_short_plain_values() {
        let mut change = insert(r#"{"id": 1, "a": {"b": 2}}"#);
        change.operation = Operation::Update;
        let altered = alter(&change, Remedy::Digest, "54000");
        let text = String::from_utf8(altered.change_data.to_vec()).unwrap();
        let start = r#"{"old": null, "new": {"id": 1, "a": {"bytes": 8, "sha256": ""#;
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn remedies_get_harder_and_end() {
        assert_eq!(Remedy::next(None), Some(Remedy::Escape));
        assert_eq!(Remedy::next(Some(Remedy::Cut)), Some(Remedy::Escape));
        assert_eq!(Remedy::next(Some(Remedy::Escape)), Some(Remedy::Digest));
        assert_eq!(Remedy::next(Some(Remedy::Digest)), None);
    }
}
