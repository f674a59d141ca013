//! Sends one bulk request, and classifies its response.
//!
//! A delete creates a missing index, with or without `require_alias`. A request with deletes is
//! therefore sent only if their indices existed within the last second.
//!
//! Not here: the consequences for the documents (`dispatch`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Target;
use super::bulk::{BulkEncoder, BulkItem, parse, parse_error};
use super::client::{Client, HttpResponse, NoResponse, Verb};
use super::index::{self, Audit, Presence, presence};
use super::probe;
use super::service_error::{refuses_explicit_index, service_error};
use super::verdict::{ErrorCause, ServiceError, ServiceFailure};
use crate::ack::memory::{Memory, MemoryPart};
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::Action;

/// How long the existence of an index is assumed after a check.
const CHECK_VALID_FOR: Duration = Duration::from_secs(1);

/// A request that something other than Elasticsearch has refused so often is looked into: it is a
/// failure of the service until then.
const INTERCEPTED_AFTER: u32 = 2;

/// How often a request has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFailures {
    /// Without a response about its documents: a failure of the service.
    pub whole: u32,
    /// With a response in which its documents failed, while their index took others.
    pub items: u32,
}

impl RequestFailures {
    /// All of them.
    #[must_use]
    pub const fn total(self) -> u32 {
        self.whole.saturating_add(self.items)
    }
}

/// The actions of one bulk request.
#[derive(Debug)]
pub struct Bulk {
    pub actions: Vec<Action>,
    /// How often the request has failed before.
    pub failures: RequestFailures,
    pub sent_at: Instant,
    /// The index of which this request is the probe: its circuit breaker is half-open.
    pub probe: Option<IndexId>,
}

/// The outcome of a bulk request.
#[derive(Debug)]
pub enum BulkOutcome {
    /// One item per action.
    Items(Vec<BulkItem>),
    /// 413: the request exceeds a limit of Elasticsearch.
    TooLarge,
    /// 400 for the request as a whole.
    Refused(ErrorCause),
    /// No response, or none about the documents.
    Failed(ServiceError),
    /// Something that is not Elasticsearch refuses the request, maybe for what is in it.
    Intercepted(ServiceError),
    /// Nothing was sent: this index does not exist.
    IndexMissing(IndexId, String),
}

impl BulkOutcome {
    /// The metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Items(_) => "answered",
            Self::TooLarge => "too_large",
            Self::Refused(_) => "refused",
            Self::Failed(error) | Self::Intercepted(error) => error.failure.label(),
            Self::IndexMissing(..) => ServiceFailure::Missing.label(),
        }
    }
}

/// Sends bulk requests; shared by the tasks that have one in flight.
#[derive(Debug)]
pub struct BulkSender {
    client: Arc<Client>,
    targets: Vec<Target>,
    encoder: BulkEncoder,
    path: String,
    /// By index: when it was last known to exist.
    checked_at: Vec<Mutex<Option<Instant>>>,
    memory: Memory,
}

impl BulkSender {
    #[must_use]
    pub fn new(client: Arc<Client>, targets: Vec<Target>, memory: Memory) -> Self {
        // Elasticsearch responds for its missing shards before the request times out here.
        let shard_timeout = (client.timeout().as_millis() / 2).max(1);
        let path = format!(
            "/_bulk?timeout={shard_timeout}ms&filter_path=took,errors,items.*.status,items.*.error,\
             items.*._index,items.*._id,items.*.result"
        );
        let encoder = BulkEncoder::new(&targets);
        let checked_at = targets.iter().map(|_| Mutex::default()).collect();
        Self { client, targets, encoder, path, checked_at, memory }
    }

    /// The index and how documents are sent to it.
    #[must_use]
    pub fn target(&self, index: IndexId) -> &Target {
        &self.targets[usize::from(index.0)]
    }

    /// The client that requests are sent by.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All indices.
    pub fn indices(&self) -> impl Iterator<Item = IndexId> + use<> {
        let count = u16::try_from(self.targets.len()).expect("an index has an IndexId");
        (0..count).map(IndexId)
    }

    /// The names of the indices, behind their aliases.
    #[must_use]
    pub fn concrete_indices(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.concrete.clone()).collect()
    }

    /// Sends one bulk request that has failed `attempts` times; returns its outcome and the bytes
    /// sent.
    pub async fn bulk(&self, actions: &[Action], attempts: u32) -> (BulkOutcome, usize) {
        for at in 0..self.targets.len() {
            let index = IndexId(u16::try_from(at).expect("an index has an IndexId"));
            let deletes = actions.iter().any(|a| a.document.index == index && a.body.is_none());
            if deletes && let Some(outcome) = self.forbids_deletes(index).await {
                return (outcome, 0);
            }
        }
        let body = self.encoder.encode(actions);
        let bytes = body.len();
        let _memory = self.memory.hold(MemoryPart::Requests, bytes);
        match self.client.send_bulk(&self.path, body).await {
            Ok(response) => match classify(actions, &self.targets, &response) {
                BulkOutcome::Intercepted(error) if attempts >= INTERCEPTED_AFTER => {
                    (self.intercepted(actions, error).await, bytes)
                }
                outcome => (outcome, bytes),
            },
            Err(error) => (BulkOutcome::Failed(error.into()), bytes),
        }
    }

    /// The outcome of a request that something in between refuses: what is in it is the cause if
    /// the index can be written otherwise, by the same way.
    async fn intercepted(&self, actions: &[Action], error: ServiceError) -> BulkOutcome {
        let Some(first) = actions.first() else { return BulkOutcome::Failed(error) };
        match self.probe(first.document.index).await {
            Ok(Presence::Present) => BulkOutcome::Refused(ErrorCause {
                kind: "not_elasticsearch".to_owned(),
                reason: Some(format!(
                    "something between walferry and Elasticsearch refuses this document, and \
                     takes others: {}",
                    error.reason
                )),
                caused_by: None,
            }),
            Ok(_) => BulkOutcome::Failed(error),
            Err(error) => BulkOutcome::Failed(error),
        }
    }

    /// Makes the documents of these indices searchable. A failure needs no retry: the next refresh,
    /// or the index's own interval, does the same.
    ///
    /// # Errors
    ///
    /// No response.
    pub async fn refresh(&self, indices: &[IndexId]) -> Result<HttpResponse, NoResponse> {
        let names: Vec<_> = indices.iter().map(|i| self.target(*i).concrete.as_str()).collect();
        let path = format!("/{}/_refresh?ignore_unavailable=true", names.join(","));
        self.client.send(Verb::Post, &path, None).await
    }

    /// Checks whether the index exists.
    ///
    /// # Errors
    ///
    /// Elasticsearch did not respond, or responded with an error.
    pub async fn check(&self, index: IndexId) -> Result<Presence, ServiceError> {
        let presence = presence(&self.client, self.target(index)).await;
        if matches!(presence, Ok(Presence::Present)) {
            self.set_checked_at(index, Instant::now());
        }
        presence
    }

    /// Checks the index, its shards and its aliases.
    ///
    /// # Errors
    ///
    /// As [`BulkSender::check`].
    pub async fn audit(&self, index: IndexId) -> Result<Audit, ServiceError> {
        index::audit(&self.client, self.target(index)).await
    }

    /// Checks whether the index exists and takes documents.
    ///
    /// # Errors
    ///
    /// The index takes no documents, or Elasticsearch did not respond as it should.
    pub async fn probe(&self, index: IndexId) -> Result<Presence, ServiceError> {
        let presence = self.check(index).await?;
        if presence == Presence::Present {
            let body = probe::encode(self.target(index));
            probe::judge(&self.client.send_bulk(&self.path, body).await?)?;
        }
        Ok(presence)
    }

    /// The outcome of a request with deletes in this index, if it must not be sent.
    async fn forbids_deletes(&self, index: IndexId) -> Option<BulkOutcome> {
        let checked_at = &self.checked_at[usize::from(index.0)];
        let checked_at = *checked_at.lock().unwrap_or_else(PoisonError::into_inner);
        if checked_at.is_some_and(|at| at.elapsed() < CHECK_VALID_FOR) {
            return None;
        }
        match self.check(index).await {
            Ok(Presence::Present) => None,
            Ok(Presence::Missing(reason) | Presence::Misdirected(reason)) => {
                Some(BulkOutcome::IndexMissing(index, reason))
            }
            Err(error) => Some(BulkOutcome::Failed(error)),
        }
    }

    fn set_checked_at(&self, index: IndexId, at: Instant) {
        let checked_at = &self.checked_at[usize::from(index.0)];
        *checked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

/// The outcome of the request as a whole.
fn classify(actions: &[Action], targets: &[Target], response: &HttpResponse) -> BulkOutcome {
    let failed = || BulkOutcome::Failed(service_error(response));
    match response.status {
        200 => match parse(actions, targets, &response.body) {
            Ok(items) => BulkOutcome::Items(items),
            Err(error) => BulkOutcome::Failed(ServiceError {
                failure: ServiceFailure::NotUnderstood,
                reason: error.to_string(),
            }),
        },
        413 => BulkOutcome::TooLarge,
        429 if parse_error(&response.body).is_some_and(|cause| cause.exceeds_limit()) => {
            BulkOutcome::TooLarge
        }
        // Only an error of Elasticsearch itself is about the documents.
        400 | 402..=407 | 409..=412 | 414..=428 | 430..=499
            if parse_error(&response.body).is_none() =>
        {
            BulkOutcome::Intercepted(service_error(response))
        }
        400 => match parse_error(&response.body) {
            None => failed(),
            Some(cause) => match refuses_explicit_index(&cause) {
                Some(error) => BulkOutcome::Failed(error),
                None => BulkOutcome::Refused(cause),
            },
        },
        _ => failed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sink::testing::action;

    #[test]
    fn a_response_is_about_the_service_or_the_documents() {
        let check = |status, body: &'static str, expected: &str| {
            let response = HttpResponse { status, body: body.into() };
            let text = match classify(&[action(0, "a", 1, None)], &[], &response) {
                BulkOutcome::Failed(error) => format!("{:?}, {:?}", error.failure, error.reason),
                BulkOutcome::Intercepted(error) => format!("intercepted: {}", error.reason),
                outcome => format!("{outcome:?}"),
            };
            assert!(text.contains(expected), "{status} {body} is {text}");
        };
        let error = r#"{"error":{"type":"x","reason":"said [secret]"},"status":400}"#;
        check(200, r#"{"items":[{"delete":{"status":200}}]}"#, "Items");
        check(200, r#"{"items":[]}"#, "NotUnderstood, ");
        check(200, "<html>", "NotUnderstood, ");
        check(413, "", "TooLarge");
        check(400, error, "Refused");
        let explicit = r#"{"error":{"type":"illegal_argument_exception",
            "reason":"explicit index in bulk is not allowed"},"status":400}"#;
        check(400, explicit, "allow_explicit_index is false");
        check(400, "<html>", "intercepted: status 400");
        check(401, error, "NotAuthorised, \"not authorised");
        check(403, "<html>", "intercepted: not authorised");
        check(403, error, "NotAuthorised, ");
        check(404, "<html>", "intercepted: ");
        check(404, error, "NotUnderstood, \"status 404: x: said …\"");
        check(429, "", "Overloaded, ");
        check(503, "", "Unavailable, ");
    }
}
