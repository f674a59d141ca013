//! An id for each request, in its answer, its errors, the log and the audit log.

use std::sync::Arc;

use tokio::task_local;
use uuid::Uuid;

task_local! {
    static REQUEST_ID: Arc<str>;
}

/// A new id. It does not come from the client, so that no client can use another's id.
pub(in crate::api) fn new() -> Arc<str> {
    Uuid::from_u128(fastrand::u128(..)).simple().to_string().into()
}

/// Runs the answer of a request under its id.
pub(in crate::api) async fn scope<F: Future>(id: Arc<str>, answer: F) -> F::Output {
    REQUEST_ID.scope(id, answer).await
}

/// The id of the request that is being answered; empty outside of one.
pub(in crate::api) fn current() -> String {
    REQUEST_ID.try_with(ToString::to_string).unwrap_or_default()
}
