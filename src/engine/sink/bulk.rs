//! Encodes the body of a bulk request, and decodes the items of its response. Pure.
//!
//! A response pairs with its request by position, so the counts and operations must agree.
//!
//! Not here: sending (`bulk_request`), and the verdict on an item (`verdict`).

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use super::Target;
use super::verdict::{DoneAs, ErrorCause, OpType};
use crate::engine::feed::action::Action;

/// The approximate size of an action's metadata line without its id.
const LINE_BYTES: usize = 160;

/// Elasticsearch refuses a whole request that has a longer `_id`.
const ID_BYTES_MAX: usize = 512;

/// Encodes bulk requests; the names of the indices are quoted once.
#[derive(Debug)]
pub struct BulkEncoder(Vec<[Vec<u8>; 2]>);

impl BulkEncoder {
    /// Index actions go to the write alias, deletes to the index itself.
    #[must_use]
    pub fn new(targets: &[Target]) -> Self {
        let quote = |name: &str| serde_json::Value::from(name).to_string();
        let lines = targets.iter().map(|target| {
            let index = format!(r#"{{"index":{{"_index":{},"_id":"#, quote(&target.write_alias));
            let delete = format!(r#"{{"delete":{{"_index":{},"_id":"#, quote(&target.concrete));
            [index.into_bytes(), delete.into_bytes()]
        });
        Self(lines.collect())
    }

    /// The request's body.
    #[must_use]
    pub fn encode(&self, actions: &[Action]) -> Bytes {
        let size = actions.iter().map(wire_size).sum();
        let mut out = Vec::with_capacity(size);
        let mut number = itoa::Buffer::new();
        for action in actions {
            let [index, delete] = &self.0[usize::from(action.document.index.0)];
            out.extend_from_slice(if action.body.is_some() { index } else { delete });
            serde_json::to_writer(&mut out, &*action.document.id)
                .expect("a string is written to memory");
            out.extend_from_slice(br#","version":"#);
            out.extend_from_slice(number.format(action.version).as_bytes());
            let Some(body) = &action.body else {
                out.extend_from_slice(b",\"version_type\":\"external_gte\"}}\n");
                continue;
            };
            out.extend_from_slice(b",\"version_type\":\"external_gte\",\"require_alias\":true}}\n");
            let mut start = out.len();
            out.extend_from_slice(body);
            // A line feed in JSON text is white space; in NDJSON it ends the document.
            while let Some(at) = memchr::memchr(b'\n', &out[start..]) {
                out[start + at] = b' ';
                start += at + 1;
            }
            out.push(b'\n');
        }
        Bytes::from(out)
    }
}

/// The size of an action in a request, rounded up.
#[must_use]
pub fn wire_size(action: &Action) -> usize {
    LINE_BYTES + action.document.id.len() + action.body.as_ref().map_or(0, Bytes::len)
}

/// Why an action must not be sent: the feed refuses it, or Elasticsearch would refuse the whole
/// request.
#[must_use]
pub fn screen(action: &Action) -> Option<String> {
    if let Some(refusal) = &action.refusal {
        return Some(refusal.to_string());
    }
    let id = &action.document.id;
    if id.is_empty() {
        return Some("the document's id is empty".to_owned());
    }
    if id.len() > ID_BYTES_MAX {
        let length = id.len();
        return Some(format!("the document's id has {length} bytes; {ID_BYTES_MAX} are the most"));
    }
    if i64::try_from(action.version).is_err() {
        return Some(format!("version {} is above 2^63-1", action.version));
    }
    None
}

/// The operation of an action.
#[must_use]
pub fn op_type(action: &Action) -> OpType {
    if action.body.is_some() { OpType::Index } else { OpType::Delete }
}

/// One item of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkItem {
    pub status: u16,
    pub error: Option<ErrorCause>,
    /// What a successful item says was done.
    pub done: DoneAs,
}

/// An item as Elasticsearch writes it.
#[derive(Deserialize)]
struct RawItem<'a> {
    status: u16,
    #[serde(default)]
    error: Option<ErrorCause>,
    #[serde(rename = "_index", borrow, default)]
    index: Option<Text<'a>>,
    #[serde(rename = "_id", borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    result: Option<Text<'a>>,
}

/// A string without escapes is borrowed. Serde does that for a field of this type, and not for a
/// `Cow` within an `Option`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl RawItem<'_> {
    /// Compares what was done with what was asked for. A member that is not there says nothing.
    fn into_item(self, action: &Action, target: Option<&Target>) -> BulkItem {
        let Self { status, error, index, id, result } = self;
        let elsewhere =
            index.filter(|index| target.is_some_and(|target| target.concrete != index.0));
        let done = match (elsewhere, id, result) {
            (_, _, Some(result)) if result.0 == "noop" => DoneAs::Dropped,
            (Some(index), ..) => DoneAs::Elsewhere(index.0.into_owned()),
            (None, Some(id), _) if id.0 != *action.document.id => DoneAs::Renamed,
            _ => DoneAs::Asked,
        };
        BulkItem { status, error, done }
    }
}

/// The response does not fit its request.
#[derive(Debug, thiserror::Error)]
pub enum BulkResponseError {
    #[error("the bulk answer is not what Elasticsearch sends")]
    Malformed(#[from] serde_json::Error),
    #[error("the bulk answer has {answered} items for {sent} actions")]
    Count { sent: usize, answered: usize },
    #[error("the bulk answer's item {at} is of another kind than the action sent")]
    OpType { at: usize },
}

/// The items of a response, one per action in the order sent.
///
/// # Errors
///
/// The text is no bulk response, or does not pair with `actions`.
pub fn parse(
    actions: &[Action],
    targets: &[Target],
    response: &[u8],
) -> Result<Vec<BulkItem>, BulkResponseError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum ResponseItem<'a> {
        #[serde(borrow)]
        Index(RawItem<'a>),
        Delete(RawItem<'a>),
    }
    #[derive(Deserialize)]
    struct BulkResponse<'a> {
        #[serde(borrow)]
        items: Vec<ResponseItem<'a>>,
    }
    // Checked once: from bytes, serde checks each string by itself.
    let BulkResponse { items } = match simdutf8::basic::from_utf8(response) {
        Ok(text) => serde_json::from_str(text)?,
        Err(_) => serde_json::from_slice(response)?,
    };
    if items.len() != actions.len() {
        return Err(BulkResponseError::Count { sent: actions.len(), answered: items.len() });
    }
    let pair = |(at, (action, item)): (usize, (&Action, ResponseItem<'_>))| {
        let target = targets.get(usize::from(action.document.index.0));
        match (op_type(action), item) {
            (OpType::Index, ResponseItem::Index(item))
            | (OpType::Delete, ResponseItem::Delete(item)) => Ok(item.into_item(action, target)),
            _ => Err(BulkResponseError::OpType { at }),
        }
    };
    actions.iter().zip(items).enumerate().map(pair).collect()
}

/// The error of a request that was refused as a whole; `None` if the text is not Elasticsearch's.
#[must_use]
pub fn parse_error(response: &[u8]) -> Option<ErrorCause> {
    #[derive(Deserialize)]
    struct ErrorResponse {
        error: ErrorCause,
    }
    serde_json::from_slice::<ErrorResponse>(response).ok().map(|response| response.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sink::testing::{action, target};
    use crate::engine::sink::verdict::{DocumentOutcome, ServiceFailure, Verdict};

    #[test]
    fn actions_become_lines() {
        let encoder = BulkEncoder::new(&[target("a"), target("b")]);
        let actions = [
            action(0, "x\"\n", 7, Some("{\"n\":\n1}")),
            action(1, "category:1", 9, None),
            action(1, "é", 1, Some("{}")),
        ];
        let body = encoder.encode(&actions);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"index":{"_index":"a-w-1","_id":"x\"\n","version":7,"version_type":"external_gte","require_alias":true}}
{"n": 1}
{"delete":{"_index":"b-000001","_id":"category:1","version":9,"version_type":"external_gte"}}
{"index":{"_index":"b-w-1","_id":"é","version":1,"version_type":"external_gte","require_alias":true}}
{}
"#
        );
    }

    #[test]
    fn what_would_fail_the_whole_request_is_screened() {
        let check = |id: &str, version, expected: Option<&str>| {
            let text = screen(&action(0, id, version, None));
            assert_eq!(text.is_some(), expected.is_some(), "{text:?}");
            assert!(text.unwrap_or_default().contains(expected.unwrap_or_default()));
        };
        check("a", 1, None);
        check(&"é".repeat(256), i64::MAX.unsigned_abs(), None);
        check(&"é".repeat(257), 1, Some("514 bytes"));
        check("", 1, Some("empty"));
        check("a", i64::MAX.unsigned_abs() + 1, Some("9223372036854775808"));
    }

    fn items(fixture: &str, kinds: &[OpType]) -> Vec<Verdict> {
        let path = format!("{}/tests/fixtures/bulk/{fixture}", env!("CARGO_MANIFEST_DIR"));
        let answer = std::fs::read(path).unwrap();
        let body = |kind| (kind == OpType::Index).then_some("{}");
        let actions: Vec<_> = kinds.iter().map(|k| action(0, "a", 1, body(*k))).collect();
        let items = parse(&actions, &[], &answer).unwrap();
        kinds.iter().zip(items).map(|(k, i)| Verdict::of(*k, i.status, i.error.as_ref())).collect()
    }

    fn is_missing(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Stop(error) if error.failure == ServiceFailure::Missing)
    }

    #[test]
    fn each_response_of_a_real_server_has_its_verdict() {
        use OpType::{Delete, Index};
        let mut kinds = vec![Index, Index, Delete, Delete, Delete];
        kinds.resize(18, Index);
        let verdicts = items("mixed.json", &kinds);
        let done = Verdict::Done;
        assert_eq!(verdicts[0], done(DocumentOutcome::Indexed));
        assert_eq!(verdicts[1], done(DocumentOutcome::Superseded));
        assert_eq!(verdicts[2], done(DocumentOutcome::Deleted));
        assert_eq!(verdicts[3], done(DocumentOutcome::Deleted));
        assert_eq!(verdicts[4], done(DocumentOutcome::Superseded));
        let refused: Vec<_> = verdicts
            .iter()
            .filter_map(|v| if let Verdict::Refused(text) = v { Some(text) } else { None })
            .collect();
        assert_eq!(refused.len(), 12, "{verdicts:#?}");
        for text in refused {
            assert!(!text.contains("secret") && !text.contains("9999"), "{text}");
        }
        for (fixture, failure) in [
            ("write_block.json", ServiceFailure::Blocked),
            ("flood_stage.json", ServiceFailure::Blocked),
            ("closed.json", ServiceFailure::Blocked),
        ] {
            for verdict in items(fixture, &[Index, Delete]) {
                assert!(
                    matches!(&verdict, Verdict::Stop(e) if e.failure == failure),
                    "{verdict:?}"
                );
            }
        }
        let verdicts = items("missing_alias.json", &[Index, Index]);
        assert!(is_missing(&verdicts[0]), "{verdicts:?}");
        assert_eq!(verdicts[1], done(DocumentOutcome::Indexed));
        let verdicts = items("no_write_index.json", &[Index]);
        assert!(is_missing(&verdicts[0]), "{verdicts:?}");
    }

    #[test]
    fn an_item_says_what_was_done() {
        let one = [action(0, "x", 1, Some("{}"))];
        let check = |members: &str, expected: DoneAs| {
            let answer = format!(r#"{{"items":[{{"index":{{"status":200{members}}}}}]}}"#);
            let items = parse(&one, &[target("a")], answer.as_bytes()).unwrap();
            assert_eq!(items[0].done, expected, "{answer}");
        };
        check(r#","_index":"a-000001","_id":"x","result":"updated""#, DoneAs::Asked);
        check(r#","_index":"b","_id":"x","result":"created""#, DoneAs::Elsewhere("b".to_owned()));
        check(r#","_index":"a-000001","_id":"y","result":"created""#, DoneAs::Renamed);
        check(r#","_index":"a-w-1","_id":"x","result":"noop""#, DoneAs::Dropped);
        check("", DoneAs::Asked);
    }

    #[test]
    fn a_response_must_pair_with_its_request() {
        let one = [action(0, "a", 1, None)];
        let check = |answer: &str, expected: &str| {
            let error = parse(&one, &[], answer.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(r#"{"items":[]}"#, "0 items for 1");
        check(r#"{"items":[{"index":{"status":200}}]}"#, "another kind");
        check(r#"{"items":[{"delete":{"status":200}}"#, "not what Elasticsearch sends");
        check("<html>", "not what Elasticsearch sends");
        assert!(parse_error(b"<html>").is_none());
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bulk/version_overflow.json");
        let cause = parse_error(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(cause.kind, "x_content_parse_exception");
    }
}
