//! Responses of the index API: success required, and decoded.

use serde::Deserialize;

use super::error::IndexError;
use crate::engine::sink::client::HttpResponse;
use crate::engine::sink::service_error::whole_service_error;
use crate::engine::sink::verdict::{ServiceError, ServiceFailure};

/// Requires success; `what` names the request in the error.
pub(super) fn accept(
    response: HttpResponse,
    what: impl FnOnce() -> String,
) -> Result<HttpResponse, IndexError> {
    if response.is_success() {
        return Ok(response);
    }
    let ServiceError { failure, reason } = whole_service_error(&response);
    Err(IndexError::Refused { what: what(), failure, reason })
}

/// Decodes the body of a response.
pub(super) fn read<T: for<'de> Deserialize<'de>>(
    response: &HttpResponse,
    what: impl FnOnce() -> String,
) -> Result<T, IndexError> {
    serde_json::from_slice(&response.body).map_err(|error| IndexError::Refused {
        what: what(),
        failure: ServiceFailure::NotUnderstood,
        reason: error.to_string(),
    })
}
