//! The service failure that a response without success stands for. Pure.
//!
//! Only an error of Elasticsearch itself refuses a document (`bulk_request`); every other response
//! is a failure of the service, which uses up no attempt of a job.

use super::bulk::parse_error;
use super::client::HttpResponse;
use super::verdict::{ServiceError, ServiceFailure};

/// The failure, with the status and Elasticsearch's error as its reason.
#[must_use]
pub(super) fn service_error(response: &HttpResponse) -> ServiceError {
    let status = response.status;
    let failure = match status {
        401 | 403 => ServiceFailure::NotAuthorised,
        408 => ServiceFailure::Timeout,
        429 => ServiceFailure::Overloaded,
        500..=599 => ServiceFailure::Unavailable,
        _ => ServiceFailure::NotUnderstood,
    };
    let cause = parse_error(&response.body).map(|c| format!(": {}", c.sentence()));
    let word = if failure == ServiceFailure::NotAuthorised {
        "not authorised; check the credentials and privileges, "
    } else {
        ""
    };
    let reason = format!("{word}status {status}{}", cause.unwrap_or_default());
    ServiceError { failure, reason }
}
