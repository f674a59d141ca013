//! Whether an index takes documents, for which there is no action to send.
//!
//! The probe is a write that can have no effect: it requires a sequence number that no document
//! has. An index that takes documents answers that the versions conflict.
//!
//! Not here: when an index is probed, and what follows (`dispatch`).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::Target;
use super::client::HttpResponse;
use super::service_error::service_error;
use super::verdict::{ErrorCause, OpType, ServiceError, ServiceFailure, Verdict};

/// The id in the probe. There need not be a document of it.
const ID: &str = "walferry-probe";

/// The body of the probe, a bulk request.
#[must_use]
pub(super) fn encode(target: &Target) -> Bytes {
    let line = json!({ "index": {
        "_index": target.write_alias, "_id": ID, "require_alias": true,
        "if_seq_no": i64::MAX, "if_primary_term": i64::MAX,
    }});
    format!("{line}\n{{}}\n").into()
}

/// The result of the probe.
///
/// # Errors
///
/// The index takes no documents, or the response is not Elasticsearch's.
pub(super) fn judge(response: &HttpResponse) -> Result<(), ServiceError> {
    #[derive(Deserialize)]
    struct Index {
        status: u16,
        #[serde(default)]
        error: Option<ErrorCause>,
    }
    #[derive(Deserialize)]
    struct Item {
        index: Index,
    }
    #[derive(Deserialize)]
    struct Response {
        items: [Item; 1],
    }
    if response.status != 200 {
        return Err(service_error(response));
    }
    let Response { items: [item] } = serde_json::from_slice(&response.body).map_err(|error| {
        ServiceError { failure: ServiceFailure::NotUnderstood, reason: error.to_string() }
    })?;
    match Verdict::of(OpType::Index, item.index.status, item.index.error.as_ref()) {
        Verdict::Stop(error) | Verdict::Retry(error) => Err(error),
        Verdict::Done(_) | Verdict::Refused(_) | Verdict::TooMuch(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sink::testing::target;

    #[test]
    fn a_probe_is_a_write_without_effect() {
        let body = encode(&target("a"));
        let text = std::str::from_utf8(&body).unwrap();
        let (line, document) = text.trim_end().split_once('\n').unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["index"]["if_seq_no"], i64::MAX);
        assert_eq!(line["index"]["require_alias"], true);
        assert_eq!(document, "{}");
    }

    #[test]
    fn a_conflict_says_that_the_index_takes_documents() {
        let check = |status, body: &'static str, expected: Option<ServiceFailure>| {
            let found = judge(&HttpResponse { status, body: body.into() });
            assert_eq!(found.err().map(|error| error.failure), expected, "{status} {body}");
        };
        let conflict = r#"{"items":[{"index":{"status":409,
            "error":{"type":"version_conflict_engine_exception"}}}]}"#;
        check(200, conflict, None);
        let blocked = r#"{"items":[{"index":{"status":403,
            "error":{"type":"cluster_block_exception"}}}]}"#;
        check(200, blocked, Some(ServiceFailure::Blocked));
        let missing = r#"{"items":[{"index":{"status":404,
            "error":{"type":"index_not_found_exception"}}}]}"#;
        check(200, missing, Some(ServiceFailure::Missing));
        check(503, "", Some(ServiceFailure::Unavailable));
        check(200, "<html>", Some(ServiceFailure::NotUnderstood));
    }
}
