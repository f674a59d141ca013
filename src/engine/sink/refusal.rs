//! What an answer that is no success says of the service.
//!
//! Only Elasticsearch's own words may blame a document (`bulk_request`); everything else is a
//! failure of the service, which costs no job an attempt.

use super::bulk::parse_refusal;
use super::client::Answer;
use super::verdict::ServiceFailure;

/// What an answer that is no success says of the service.
#[must_use]
pub(super) fn service_failure(answer: &Answer) -> (ServiceFailure, String) {
    let status = answer.status;
    let failure = match status {
        401 | 403 => ServiceFailure::NotAuthorised,
        408 => ServiceFailure::Timeout,
        429 => ServiceFailure::Overloaded,
        500..=599 => ServiceFailure::Unavailable,
        _ => ServiceFailure::NotUnderstood,
    };
    let cause = parse_refusal(&answer.body).map(|c| format!(": {}", c.sentence()));
    let word = if failure == ServiceFailure::NotAuthorised {
        "not authorised; check the credentials and privileges, "
    } else {
        ""
    };
    (failure, format!("{word}status {status}{}", cause.unwrap_or_default()))
}
