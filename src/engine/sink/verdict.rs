//! The verdict on one bulk item: settled, retried, held with its index, or refused. Pure.
//!
//! A failure of the service fails no document, with one exception: a document that fails twelve
//! times while its index accepts others is refused (`dispatch::outcome`).
//!
//! Not here: the consequences of a verdict (`dispatch`).

use std::borrow::Cow;

use serde::Deserialize;

/// Types of errors whose reasons quote no document.
const ABOUT_NO_DOCUMENT: [&str; 6] = [
    "cluster_block_exception",
    "index_closed_exception",
    "index_not_found_exception",
    "security_exception",
    "unavailable_shards_exception",
    "es_rejected_execution_exception",
];

/// Bytes of an error sentence kept in `error_message`.
const SENTENCE_BYTES_MAX: usize = 500;

/// The operation of a bulk item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpType {
    Index,
    Delete,
}

/// The outcome of a settled document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentOutcome {
    /// The document was written.
    Indexed,
    /// The document was deleted, or did not exist.
    Deleted,
    /// The index already held a newer version.
    Superseded,
    /// Elasticsearch refuses the document permanently.
    Refused,
    /// Nothing was sent: Elasticsearch has this document already.
    Unchanged,
}

impl DocumentOutcome {
    pub const ALL: [Self; 5] =
        [Self::Indexed, Self::Deleted, Self::Superseded, Self::Refused, Self::Unchanged];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Indexed => "indexed",
            Self::Deleted => "deleted",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
            Self::Unchanged => "unchanged",
        }
    }
}

/// The kind of a service failure, after which a request is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceFailure {
    /// 429: a queue or the memory is full.
    Overloaded,
    /// 5xx: a node or a shard is not available.
    Unavailable,
    /// The connection was refused or lost.
    Connection,
    /// No response within the timeout.
    Timeout,
    /// 401 or 403 for the whole request; for one item it is [`Self::Blocked`].
    NotAuthorised,
    /// A response that is not Elasticsearch's.
    NotUnderstood,
    /// The index refuses writes, or 401 or 403 for an item.
    Blocked,
    /// The index or its alias does not exist.
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

/// A failure of the service and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    pub failure: ServiceFailure,
    pub reason: String,
}

/// An error in Elasticsearch's response.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct ErrorCause {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub caused_by: Option<Box<ErrorCause>>,
}

impl ErrorCause {
    /// Elasticsearch's indexing pressure: the operation alone exceeds the limit, so an idle node
    /// would refuse it too (`IndexingPressure`: `rejected execution of primary operation
    /// […, primary_operation_bytes=N, max_primary_bytes=M]`, and the same of `coordinating`).
    #[must_use]
    pub fn exceeds_limit(&self) -> bool {
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

    /// `type: reason (cause's type)`, truncated, without values of the document. The reasons of
    /// errors that are not about a document are whole: they name blocks, privileges and numbers.
    #[must_use]
    pub fn sentence(&self) -> String {
        if ABOUT_NO_DOCUMENT.contains(&self.kind.as_str()) {
            return self.whole();
        }
        self.written(without_values)
    }

    /// As [`ErrorCause::sentence`], with the reason as it is: for the answer to a request that
    /// carries no document.
    #[must_use]
    pub fn whole(&self) -> String {
        self.written(|reason| Cow::Borrowed(reason))
    }

    fn written(&self, shown: impl Fn(&str) -> Cow<'_, str>) -> String {
        let mut sentence = self.kind.clone();
        if let Some(reason) = &self.reason {
            sentence.push_str(": ");
            sentence.push_str(&shown(reason));
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

/// What a successful item says was done. Only what was asked for is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DoneAs {
    /// As it was asked for.
    #[default]
    Asked,
    /// In another index.
    Elsewhere(String),
    /// Under another id.
    Renamed,
    /// Nothing (`noop`).
    Dropped,
}

impl DoneAs {
    /// What is wrong with it; `None` if it is what was asked for.
    fn fault(&self) -> Option<String> {
        let what = match self {
            Self::Asked => return None,
            Self::Elsewhere(index) => format!("its documents went to index {index}"),
            Self::Renamed => "its documents got another _id".to_owned(),
            Self::Dropped => "its documents were dropped (result noop)".to_owned(),
        };
        Some(format!(
            "{what}: the write alias was moved, or an ingest pipeline of the index \
             (index.default_pipeline, index.final_pipeline) alters what is sent"
        ))
    }
}

/// The verdict on one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Settled: never [`DocumentOutcome::Refused`].
    Done(DocumentOutcome),
    /// Elasticsearch refuses this document permanently; the sentence has the reason.
    Refused(String),
    /// The request exceeds a limit of Elasticsearch that does not depend on its load.
    TooMuch(String),
    /// The service failed: the document is sent again.
    Retry(ServiceError),
    /// The index refuses all writes ([`ServiceFailure::Blocked`], [`ServiceFailure::Missing`]).
    Stop(ServiceError),
}

impl Verdict {
    /// The verdict on an item that says what was done.
    #[must_use]
    pub fn of_item(kind: OpType, status: u16, cause: Option<&ErrorCause>, done: &DoneAs) -> Self {
        match (Self::of(kind, status, cause), done.fault()) {
            // The index is checked. What is wrong with it is repaired or reported.
            (Self::Done(DocumentOutcome::Indexed), Some(reason)) => {
                Self::Stop(ServiceError { failure: ServiceFailure::Missing, reason })
            }
            (verdict, _) => verdict,
        }
    }

    /// The verdict on an item with this status.
    #[must_use]
    pub fn of(kind: OpType, status: u16, cause: Option<&ErrorCause>) -> Self {
        let name = cause.map_or("", |c| c.kind.as_str());
        let sentence = || cause.map_or_else(|| format!("status {status}"), ErrorCause::sentence);
        let failed = |failure| ServiceError { failure, reason: sentence() };
        match (status, name) {
            (200 | 201, _) if kind == OpType::Index => Self::Done(DocumentOutcome::Indexed),
            (200 | 201, _) => Self::Done(DocumentOutcome::Deleted),
            (404, "") if kind == OpType::Delete => Self::Done(DocumentOutcome::Deleted),
            (409, "" | "version_conflict_engine_exception") => {
                Self::Done(DocumentOutcome::Superseded)
            }
            (_, "cluster_block_exception" | "index_closed_exception") | (401 | 403, _) => {
                Self::Stop(failed(ServiceFailure::Blocked))
            }
            (_, "index_not_found_exception") => Self::Stop(failed(ServiceFailure::Missing)),
            (400, "illegal_argument_exception") if sentence().contains("no write index") => {
                Self::Stop(failed(ServiceFailure::Missing))
            }
            (429, _) if cause.is_some_and(ErrorCause::exceeds_limit) => Self::TooMuch(sentence()),
            (429, _) => Self::Retry(failed(ServiceFailure::Overloaded)),
            (404 | 408 | 409 | 500..=599, _) => Self::Retry(failed(ServiceFailure::Unavailable)),
            _ => Self::Refused(sentence()),
        }
    }
}

/// The reason without quotations of the document. Elasticsearch quotes what it could not parse;
/// names of fields and indices (they follow one of `NAMED`) and positions are kept.
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
        // An apostrophe within a word begins no quotation.
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

    fn check(kind: OpType, status: u16, error: &str, expected: &Verdict) {
        let cause = (!error.is_empty())
            .then(|| ErrorCause { kind: error.to_owned(), ..ErrorCause::default() });
        assert_eq!(
            &Verdict::of(kind, status, cause.as_ref()),
            expected,
            "{kind:?} {status} {error}"
        );
    }

    #[test]
    fn an_operation_over_the_limit_exceeds_it() {
        let fits = |reason: &str| {
            let kind = "es_rejected_execution_exception".to_owned();
            !ErrorCause { kind, reason: Some(reason.to_owned()), caused_by: None }.exceeds_limit()
        };
        assert!(fits("rejected execution of primary operation"));
        assert!(fits("[all_bytes=9, primary_operation_bytes=4, max_primary_bytes=5]"));
        assert!(!fits("[all_bytes=0, primary_operation_bytes=6, max_primary_bytes=5]"));
        assert!(!fits("[coordinating_operation_bytes=6, max_coordinating_bytes=5]"));
    }

    #[test]
    fn each_status_has_one_meaning() {
        use OpType::{Delete, Index};
        let done = Verdict::Done;
        let failed = |failure, text: &str| ServiceError { failure, reason: text.to_owned() };
        let retry = |failure, text: &str| Verdict::Retry(failed(failure, text));
        let stop = |failure, text: &str| Verdict::Stop(failed(failure, text));
        check(Index, 201, "", &done(DocumentOutcome::Indexed));
        check(Index, 200, "", &done(DocumentOutcome::Indexed));
        check(Delete, 200, "", &done(DocumentOutcome::Deleted));
        check(Delete, 404, "", &done(DocumentOutcome::Deleted));
        check(Index, 409, "version_conflict_engine_exception", &done(DocumentOutcome::Superseded));
        check(Delete, 409, "version_conflict_engine_exception", &done(DocumentOutcome::Superseded));
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
        let cause = ErrorCause {
            kind: "illegal_argument_exception".to_owned(),
            reason: Some(
                "no write index is defined for alias [fx-w-1]. The write index may …".to_owned(),
            ),
            caused_by: None,
        };
        let verdict = Verdict::of(OpType::Index, 400, Some(&cause));
        let Verdict::Stop(error) = verdict else { panic!("{verdict:?}") };
        assert_eq!(error.failure, ServiceFailure::Missing);
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
    fn names_of_blocks_and_privileges_are_whole() {
        let check = |kind: &str, reason: &str| {
            let cause = ErrorCause {
                kind: kind.to_owned(),
                reason: Some(reason.to_owned()),
                ..ErrorCause::default()
            };
            assert_eq!(cause.sentence(), format!("{kind}: {reason}"));
        };
        check(
            "cluster_block_exception",
            "index [a-000001] blocked by: [FORBIDDEN/9/index metadata (api)];",
        );
        check(
            "security_exception",
            "action [indices:data/write/bulk[s]] is unauthorized for user [w] with effective \
             roles [r] on indices [a]",
        );
    }

    #[test]
    fn what_was_not_asked_for_is_not_done() {
        let asked = Verdict::of_item(OpType::Index, 201, None, &DoneAs::Asked);
        assert_eq!(asked, Verdict::Done(DocumentOutcome::Indexed));
        for done in [DoneAs::Elsewhere("b".to_owned()), DoneAs::Renamed, DoneAs::Dropped] {
            let verdict = Verdict::of_item(OpType::Index, 200, None, &done);
            assert!(matches!(verdict, Verdict::Stop(_)), "{verdict:?}");
        }
    }

    #[test]
    fn a_sentence_is_short_and_whole() {
        let cause = ErrorCause { kind: "é".repeat(400), ..ErrorCause::default() };
        assert_eq!(cause.sentence().len(), 500);
    }
}
