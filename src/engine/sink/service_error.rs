//! Classifies a response without success as a failure of the service. Pure.
//!
//! Only an error of Elasticsearch itself refuses a document (`bulk_request`); every other response
//! is a failure of the service, which uses up no attempt of a job.

use super::bulk::parse_error;
use super::client::HttpResponse;
use super::verdict::{ErrorCause, ServiceError, ServiceFailure};

/// The setting of Elasticsearch without which no bulk request names its indices.
const EXPLICIT_INDEX: &str = "rest.action.multi.allow_explicit_index";

/// The failure, with the status and Elasticsearch's error as its reason: that of a request which
/// carries documents, so its values are left out.
#[must_use]
pub(super) fn service_error(response: &HttpResponse) -> ServiceError {
    described(response, ErrorCause::sentence)
}

/// The same of a request that carries none, with the whole reason.
#[must_use]
pub(super) fn whole_service_error(response: &HttpResponse) -> ServiceError {
    described(response, ErrorCause::whole)
}

/// The refusal of every request that names its indices, by a setting of the nodes.
#[must_use]
pub(super) fn refuses_explicit_index(cause: &ErrorCause) -> Option<ServiceError> {
    let said = cause.reason.as_deref().unwrap_or_default();
    (cause.kind == "illegal_argument_exception" && said.starts_with("explicit index in ")).then(
        || ServiceError {
            failure: ServiceFailure::NotAuthorised,
            reason: format!(
                "{said}: {EXPLICIT_INDEX} is false in elasticsearch.yml; set it to true and restart \
                 the nodes"
            ),
        },
    )
}

fn described(response: &HttpResponse, sentence: fn(&ErrorCause) -> String) -> ServiceError {
    let status = response.status;
    let cause = parse_error(&response.body);
    let is_block = cause.as_ref().is_some_and(|cause| cause.kind == "cluster_block_exception");
    let failure = match status {
        _ if is_block => ServiceFailure::Blocked,
        401 | 403 => ServiceFailure::NotAuthorised,
        408 => ServiceFailure::Timeout,
        429 => ServiceFailure::Overloaded,
        500..=599 => ServiceFailure::Unavailable,
        _ => ServiceFailure::NotUnderstood,
    };
    let cause = cause.map(|cause| format!(": {}", sentence(&cause)));
    let word = if failure == ServiceFailure::NotAuthorised {
        "not authorised; check the credentials and privileges, "
    } else {
        ""
    };
    let reason = format!("{word}status {status}{}", cause.unwrap_or_default());
    ServiceError { failure, reason }
}
