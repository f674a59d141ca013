//! The bulk API's two texts: actions to NDJSON, and the answer to items.
//!
//! An answer pairs with its request by position, so the counts and kinds must agree. Not here:
//! sending (`send`), judging (`verdict`). Pure.

use bytes::Bytes;
use serde::Deserialize;

use super::Target;
use super::verdict::{Cause, Kind};
use crate::engine::feed::action::Action;

/// Bytes of an action's metadata line, its id aside, about.
const LINE_BYTES: usize = 160;

/// `_id`s beyond this make Elasticsearch refuse the whole request.
const ID_BYTES_MAX: usize = 512;

/// Index names in the metadata lines, quoted once.
#[derive(Debug)]
pub struct Lines(Vec<[Vec<u8>; 2]>);

impl Lines {
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
            // A line break in JSON text is white space; here it would end the document.
            while let Some(at) = memchr::memchr(b'\n', &out[start..]) {
                out[start + at] = b' ';
                start += at + 1;
            }
            out.push(b'\n');
        }
        Bytes::from(out)
    }
}

/// Bytes that an action may take in a request.
#[must_use]
pub fn wire_size(action: &Action) -> usize {
    LINE_BYTES + action.document.id.len() + action.body.as_ref().map_or(0, Bytes::len)
}

/// Why an action cannot be sent: Elasticsearch would refuse its neighbours with it.
#[must_use]
pub fn screen(action: &Action) -> Option<String> {
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

/// What an action asks for.
#[must_use]
pub fn kind(action: &Action) -> Kind {
    if action.body.is_some() { Kind::Index } else { Kind::Delete }
}

/// One item of an answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Item {
    pub status: u16,
    #[serde(default)]
    pub error: Option<Cause>,
}

/// An answer that does not fit its request.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("the bulk answer is not what Elasticsearch sends")]
    Malformed(#[from] serde_json::Error),
    #[error("the bulk answer has {answered} items for {sent} actions")]
    Count { sent: usize, answered: usize },
    #[error("the bulk answer's item {at} is of another kind than the action sent")]
    Kind { at: usize },
}

/// The items of an answer, one per action in the order sent.
///
/// # Errors
///
/// When the text is no bulk answer or does not pair with `actions`.
pub fn parse(actions: &[Action], answer: &[u8]) -> Result<Vec<Item>, AnswerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Entry {
        Index(Item),
        Delete(Item),
    }
    #[derive(Deserialize)]
    struct Answer {
        items: Vec<Entry>,
    }
    let Answer { items } = serde_json::from_slice(answer)?;
    if items.len() != actions.len() {
        return Err(AnswerError::Count { sent: actions.len(), answered: items.len() });
    }
    let pair = |(at, (action, entry))| match (kind(action), entry) {
        (Kind::Index, Entry::Index(item)) | (Kind::Delete, Entry::Delete(item)) => Ok(item),
        _ => Err(AnswerError::Kind { at }),
    };
    actions.iter().zip(items).enumerate().map(pair).collect()
}

/// The error of a request that was refused as a whole; `None` if the text is not Elasticsearch's.
#[must_use]
pub fn parse_refusal(answer: &[u8]) -> Option<Cause> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Cause,
    }
    serde_json::from_slice::<Refusal>(answer).ok().map(|r| r.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sink::testing::{action, target};
    use crate::engine::sink::verdict::{Outcome, ServiceFailure, Verdict};

    #[test]
    fn actions_become_lines() {
        let lines = Lines::new(&[target("a"), target("b")]);
        let actions = [
            action(0, "x\"\n", 7, Some("{\"n\":\n1}")),
            action(1, "category:1", 9, None),
            action(1, "é", 1, Some("{}")),
        ];
        let body = lines.encode(&actions);
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
    fn what_would_fail_its_neighbours_is_screened() {
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

    fn items(fixture: &str, kinds: &[Kind]) -> Vec<Verdict> {
        let path = format!("{}/tests/fixtures/bulk/{fixture}", env!("CARGO_MANIFEST_DIR"));
        let answer = std::fs::read(path).unwrap();
        let body = |kind| (kind == Kind::Index).then_some("{}");
        let actions: Vec<_> = kinds.iter().map(|k| action(0, "a", 1, body(*k))).collect();
        let items = parse(&actions, &answer).unwrap();
        kinds.iter().zip(items).map(|(k, i)| Verdict::of(*k, i.status, i.error.as_ref())).collect()
    }

    #[test]
    fn answers_of_a_real_server_are_judged() {
        use Kind::{Delete, Index};
        let mut kinds = vec![Index, Index, Delete, Delete, Delete];
        kinds.resize(18, Index);
        let verdicts = items("mixed.json", &kinds);
        let done = Verdict::Done;
        assert_eq!(verdicts[0], done(Outcome::Indexed));
        assert_eq!(verdicts[1], done(Outcome::Superseded));
        assert_eq!(verdicts[2], done(Outcome::Deleted));
        assert_eq!(verdicts[3], done(Outcome::Deleted));
        assert_eq!(verdicts[4], done(Outcome::Superseded));
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
                assert!(matches!(&verdict, Verdict::Stop(t, _) if *t == failure), "{verdict:?}");
            }
        }
        let verdicts = items("missing_alias.json", &[Index, Index]);
        assert!(matches!(&verdicts[0], Verdict::Stop(ServiceFailure::Missing, _)), "{verdicts:?}");
        assert_eq!(verdicts[1], done(Outcome::Indexed));
        let verdicts = items("no_write_index.json", &[Index]);
        assert!(matches!(&verdicts[0], Verdict::Stop(ServiceFailure::Missing, _)), "{verdicts:?}");
    }

    #[test]
    fn an_answer_must_pair_with_its_request() {
        let one = [action(0, "a", 1, None)];
        let check = |answer: &str, expected: &str| {
            let error = parse(&one, answer.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(r#"{"items":[]}"#, "0 items for 1");
        check(r#"{"items":[{"index":{"status":200}}]}"#, "another kind");
        check(r#"{"items":[{"delete":{"status":200}}"#, "not what Elasticsearch sends");
        check("<html>", "not what Elasticsearch sends");
        assert!(parse_refusal(b"<html>").is_none());
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bulk/version_overflow.json");
        let cause = parse_refusal(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(cause.kind, "x_content_parse_exception");
    }
}
