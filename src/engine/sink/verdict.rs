//! What one bulk item's answer means for its document: done, try again, wait for the index, or
//! never.
//!
//! What went wrong with the service never fails a document. Not here: what is done about it
//! (`schedule`). Pure.

use std::borrow::Cow;

use serde::Deserialize;

/// Bytes of an error sentence kept in `error_message`.
const SENTENCE_BYTES_MAX: usize = 500;

/// What an action asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Index,
    Delete,
}

/// How a document came to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written.
    Indexed,
    /// Removed, or not there to be removed.
    Deleted,
    /// A newer state was there already.
    Superseded,
    /// Elasticsearch refuses the document for good.
    Refused,
}

impl Outcome {
    pub const ALL: [Self; 4] = [Self::Indexed, Self::Deleted, Self::Superseded, Self::Refused];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Indexed => "indexed",
            Self::Deleted => "deleted",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
        }
    }
}

/// Why something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceFailure {
    /// 429: queues or memory are full.
    Overloaded,
    /// 5xx: a node or a shard is not there.
    Unavailable,
    /// The connection was refused or broke.
    Connection,
    /// No answer within the time allowed.
    Timeout,
    /// 401 or 403.
    NotAuthorised,
    /// An answer that no Elasticsearch gives.
    NotUnderstood,
    /// The index takes no writes.
    Blocked,
    /// The index or its alias is not there.
    Missing,
}

impl ServiceFailure {
    pub const ALL: [Self; 8] = [
        Self::Overloaded,
        Self::Unavailable,
        Self::Connection,
        Self::Timeout,
        Self::NotAuthorised,
        Self::NotUnderstood,
        Self::Blocked,
        Self::Missing,
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::NotAuthorised => "not_authorised",
            Self::NotUnderstood => "not_understood",
            Self::Blocked => "blocked",
            Self::Missing => "missing",
        }
    }
}

/// Elasticsearch's account of an error.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Cause {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub caused_by: Option<Box<Cause>>,
}

impl Cause {
    /// Elasticsearch's indexing pressure: the operation alone is over the limit, so it would be
    /// refused by an idle node too (`IndexingPressure`: `rejected execution of primary operation
    /// […, primary_operation_bytes=N, max_primary_bytes=M]`, and the same of `coordinating`).
    #[must_use]
    pub fn never_fits(&self) -> bool {
        let Some(reason) = &self.reason else { return false };
        let number = |name: &str| -> Option<u64> {
            let (_, rest) = reason.split_once(name)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        self.kind == "es_rejected_execution_exception"
            && ["primary", "coordinating"].iter().any(|kind| {
                let operation = number(&format!("{kind}_operation_bytes="));
                let limit = number(&format!("max_{kind}_bytes="));
                operation.zip(limit).is_some_and(|(operation, limit)| operation > limit)
            })
    }

    /// `type: reason (cause's type)`, without what the reason quotes of the document, and short.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = self.kind.clone();
        if let Some(reason) = &self.reason {
            sentence.push_str(": ");
            sentence.push_str(&without_values(reason));
        }
        if let Some(cause) = &self.caused_by {
            sentence.push_str(" (");
            sentence.push_str(&cause.kind);
            sentence.push(')');
        }
        sentence.truncate(sentence.floor_char_boundary(SENTENCE_BYTES_MAX));
        sentence
    }
}

/// What becomes of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Settled: never [`Outcome::Refused`].
    Done(Outcome),
    /// This document only, for good; the sentence says why.
    Refused(String),
    /// What was sent together is more than Elasticsearch takes at any time.
    TooMuch(String),
    /// Not its fault: send it again.
    Retry(ServiceFailure, String),
    /// No document of its index can be written now ([`ServiceFailure::Blocked`], [`ServiceFailure::Missing`]).
    Stop(ServiceFailure, String),
}

impl Verdict {
    /// The verdict on an item answered with `status`.
    #[must_use]
    pub fn of(kind: Kind, status: u16, cause: Option<&Cause>) -> Self {
        let name = cause.map_or("", |c| c.kind.as_str());
        let sentence = || cause.map_or_else(|| format!("status {status}"), Cause::sentence);
        match (status, name) {
            (200 | 201, _) if kind == Kind::Index => Self::Done(Outcome::Indexed),
            (200 | 201, _) => Self::Done(Outcome::Deleted),
            (404, "") if kind == Kind::Delete => Self::Done(Outcome::Deleted),
            (409, "" | "version_conflict_engine_exception") => Self::Done(Outcome::Superseded),
            (_, "cluster_block_exception" | "index_closed_exception") | (401 | 403, _) => {
                Self::Stop(ServiceFailure::Blocked, sentence())
            }
            (_, "index_not_found_exception") => Self::Stop(ServiceFailure::Missing, sentence()),
            (400, "illegal_argument_exception") if sentence().contains("no write index") => {
                Self::Stop(ServiceFailure::Missing, sentence())
            }
            (429, _) if cause.is_some_and(Cause::never_fits) => Self::TooMuch(sentence()),
            (429, _) => Self::Retry(ServiceFailure::Overloaded, sentence()),
            (404 | 408 | 409 | 500..=599, _) => {
                Self::Retry(ServiceFailure::Unavailable, sentence())
            }
            _ => Self::Refused(sentence()),
        }
    }
}

/// Elasticsearch's reasons quote what they could not parse. Names of fields and indices stay
/// (they follow one of `NAMED`), and so do positions; every other quotation goes.
fn without_values(reason: &str) -> Cow<'_, str> {
    const NAMED: [&str; 7] = [
        "failed to parse field",
        "type",
        "mapping for",
        "parse field",
        "introduction of",
        "within",
        "index",
    ];
    const QUOTING: [&str; 3] = [". Preview of", "at [Source", "The prefix of the first"];
    let end = QUOTING.iter().filter_map(|q| reason.find(q)).min().unwrap_or(reason.len());
    let (kept, _) = reason.split_at(end);
    let mut rest = kept.trim_end();
    let mut clean = String::with_capacity(rest.len());
    while let Some(at) = rest.find(['[', '\'', '"', '(']) {
        let (before, quotation) = rest.split_at(at);
        clean.push_str(before);
        let close = match quotation.as_bytes().first() {
            Some(b'[') => ']',
            Some(b'(') => ')',
            Some(b'\'') => '\'',
            _ => '"',
        };
        // An apostrophe inside a word is none of ours.
        let apostrophe = close == '\'' && before.ends_with(|c: char| c.is_alphanumeric());
        let length = quotation.char_indices().skip(1).find(|(_, c)| *c == close);
        let length = length.map_or(quotation.len(), |(at, c)| at + c.len_utf8());
        let (quoted, after) = quotation.split_at(if apostrophe { 1 } else { length });
        let position = quoted.chars().all(|c| "[]:0123456789".contains(c)) && clean.is_empty();
        let named = close != '"' && NAMED.iter().any(|word| before.trim_end().ends_with(word))
            || before.trim_end().ends_with("with id")
            || before.ends_with("field=");
        clean.push_str(if apostrophe || position || named { quoted } else { "…" });
        rest = after;
    }
    if clean.is_empty() {
        return Cow::Borrowed(rest);
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, status: u16, error: &str, expected: &Verdict) {
        let cause =
            (!error.is_empty()).then(|| Cause { kind: error.to_owned(), ..Cause::default() });
        assert_eq!(
            &Verdict::of(kind, status, cause.as_ref()),
            expected,
            "{kind:?} {status} {error}"
        );
    }

    #[test]
    fn an_operation_over_the_limit_never_fits() {
        let fits = |reason: &str| {
            let kind = "es_rejected_execution_exception".to_owned();
            !Cause { kind, reason: Some(reason.to_owned()), caused_by: None }.never_fits()
        };
        assert!(fits("rejected execution of primary operation"));
        assert!(fits("[all_bytes=9, primary_operation_bytes=4, max_primary_bytes=5]"));
        assert!(!fits("[all_bytes=0, primary_operation_bytes=6, max_primary_bytes=5]"));
        assert!(!fits("[coordinating_operation_bytes=6, max_coordinating_bytes=5]"));
    }

    #[test]
    fn each_status_has_one_meaning() {
        use Kind::{Delete, Index};
        let done = Verdict::Done;
        let retry = |failure, text: &str| Verdict::Retry(failure, text.to_owned());
        let stop = |failure, text: &str| Verdict::Stop(failure, text.to_owned());
        check(Index, 201, "", &done(Outcome::Indexed));
        check(Index, 200, "", &done(Outcome::Indexed));
        check(Delete, 200, "", &done(Outcome::Deleted));
        check(Delete, 404, "", &done(Outcome::Deleted));
        check(Index, 409, "version_conflict_engine_exception", &done(Outcome::Superseded));
        check(Delete, 409, "version_conflict_engine_exception", &done(Outcome::Superseded));
        check(Index, 404, "", &retry(ServiceFailure::Unavailable, "status 404"));
        for kind in [Index, Delete] {
            let (missing, block) = ("index_not_found_exception", "cluster_block_exception");
            check(kind, 404, missing, &stop(ServiceFailure::Missing, missing));
            check(kind, 403, block, &stop(ServiceFailure::Blocked, block));
            check(kind, 429, block, &stop(ServiceFailure::Blocked, block));
            check(
                kind,
                400,
                "index_closed_exception",
                &stop(ServiceFailure::Blocked, "index_closed_exception"),
            );
            check(
                kind,
                403,
                "security_exception",
                &stop(ServiceFailure::Blocked, "security_exception"),
            );
            check(
                kind,
                429,
                "es_rejected_execution_exception",
                &retry(ServiceFailure::Overloaded, "es_rejected_execution_exception"),
            );
            check(
                kind,
                503,
                "unavailable_shards_exception",
                &retry(ServiceFailure::Unavailable, "unavailable_shards_exception"),
            );
            check(kind, 500, "", &retry(ServiceFailure::Unavailable, "status 500"));
            check(
                kind,
                400,
                "document_parsing_exception",
                &Verdict::Refused("document_parsing_exception".to_owned()),
            );
            check(kind, 413, "", &Verdict::Refused("status 413".to_owned()));
        }
    }

    #[test]
    fn an_alias_without_a_write_index_stops_the_index() {
        let cause = Cause {
            kind: "illegal_argument_exception".to_owned(),
            reason: Some(
                "no write index is defined for alias [fx-w-1]. The write index may …".to_owned(),
            ),
            caused_by: None,
        };
        let verdict = Verdict::of(Kind::Index, 400, Some(&cause));
        assert!(matches!(verdict, Verdict::Stop(ServiceFailure::Missing, _)), "{verdict:?}");
    }

    #[test]
    fn reasons_keep_names_and_lose_values() {
        let check = |reason, expected| assert_eq!(without_values(reason), expected);
        check(
            "[1:6] failed to parse field [d] of type [date] in document with id 'p1'. \
             Preview of field's value: 'secret'",
            "[1:6] failed to parse field [d] of type [date] in document with id 'p1'",
        );
        check(
            "[1:6] failed to parse: Illegal input [secret] UTF-16 codepoint [0x1f] at position 6 \
             is a reserved character",
            "[1:6] failed to parse: Illegal input … UTF-16 codepoint … at position 6 is a reserved character",
        );
        check(
            "[1:6] failed to parse: [1:8] Unexpected end-of-input\n at [Source: (byte[])\"{\"n\":1,\"; line: 1]",
            "[1:6] failed to parse: … Unexpected end-of-input",
        );
        check(
            "[1:17] mapping set to strict, dynamic introduction of [f] within [_doc] is not allowed",
            "[1:17] mapping set to strict, dynamic introduction of [f] within [_doc] is not allowed",
        );
        check(
            "failed to parse date field [secret] with format [x]",
            "failed to parse date field … with format …",
        );
        check("For input string: \"secret\"", "For input string: …");
        check("Numeric value (12345) out of range", "Numeric value … out of range");
        check("the field's value is [secret", "the field's value is …");
        check("plain", "plain");
        check("", "");
    }

    #[test]
    fn a_sentence_is_short_and_whole() {
        let cause = Cause { kind: "é".repeat(400), ..Cause::default() };
        assert_eq!(cause.sentence().len(), 500);
    }
}
