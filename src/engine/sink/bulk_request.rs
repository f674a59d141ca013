//! One bulk on its way: encoded, sent, and its answer sorted into what it means for the whole
//! request.
//!
//! Deletes make a missing index anew, with or without `require_alias`, so a bulk that has any
//! goes out only when their indices were there a moment ago. Not here: what becomes of the
//! documents (`schedule`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Target;
use super::bulk::{Item, Lines, parse, parse_refusal};
use super::client::{Answer, Client, NoAnswer, Verb};
use super::index::{Presence, presence};
use super::refusal::service_failure;
use super::verdict::{Cause, ServiceFailure};
use crate::engine::document::id::IndexId;
use crate::engine::feed::action::Action;

/// How long an index that was seen counts as there.
const SEEN_FOR: Duration = Duration::from_secs(1);

/// Actions that go out as one request.
#[derive(Debug)]
pub struct Bulk {
    pub actions: Vec<Action>,
    /// How often it has failed before.
    pub attempts: u32,
    pub sent_at: Instant,
    /// Set when it goes out to see whether this closed index takes documents again.
    pub trying: Option<IndexId>,
}

/// What came of a bulk.
#[derive(Debug)]
pub enum Answered {
    /// One item per action.
    Items(Vec<Item>),
    /// 413: too many bytes for Elasticsearch.
    TooLarge,
    /// 400 for the request as a whole.
    Refused(Cause),
    /// No answer, or none that says anything about the documents.
    Fault(ServiceFailure, String),
    /// Nothing was sent: this index is not there.
    Missing(IndexId, String),
}

impl Answered {
    /// The metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Items(_) => "answered",
            Self::TooLarge => "too_large",
            Self::Refused(_) => "refused",
            Self::Fault(failure, _) => failure.label(),
            Self::Missing(..) => ServiceFailure::Missing.label(),
        }
    }
}

/// Sends bulks; shared by all that are under way.
#[derive(Debug)]
pub struct BulkSender {
    client: Arc<Client>,
    targets: Vec<Target>,
    lines: Lines,
    path: String,
    seen: Vec<Mutex<Option<Instant>>>,
}

impl BulkSender {
    #[must_use]
    pub fn new(client: Arc<Client>, targets: Vec<Target>) -> Self {
        // Elasticsearch answers for its missing shards before the request is given up here.
        let patience = (client.timeout().as_millis() / 2).max(1);
        let path = format!(
            "/_bulk?timeout={patience}ms&filter_path=took,errors,items.*.status,items.*.error"
        );
        let lines = Lines::new(&targets);
        let seen = targets.iter().map(|_| Mutex::default()).collect();
        Self { client, targets, lines, path, seen }
    }

    #[must_use]
    pub fn target(&self, index: IndexId) -> &Target {
        &self.targets[usize::from(index.0)]
    }

    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends one bulk; also the bytes sent.
    pub async fn bulk(&self, actions: &[Action]) -> (Answered, usize) {
        for at in 0..self.targets.len() {
            let index = IndexId(u16::try_from(at).expect("an index has an IndexId"));
            let deletes = actions.iter().any(|a| a.document.index == index && a.body.is_none());
            if deletes && let Some(answered) = self.unseen(index).await {
                return (answered, 0);
            }
        }
        let body = self.lines.encode(actions);
        let bytes = body.len();
        match self.client.send_bulk(&self.path, body).await {
            Ok(answer) => (sort(actions, &answer), bytes),
            Err(error) => (Answered::Fault(error.failure, error.to_string()), bytes),
        }
    }

    /// Makes the documents of these indices searchable. No harm in a failure: the next one, or the
    /// index's own interval, makes up for it.
    pub async fn refresh(&self, indices: &[IndexId]) -> Result<Answer, NoAnswer> {
        let names: Vec<_> = indices.iter().map(|i| self.target(*i).concrete.as_str()).collect();
        let path = format!("/{}/_refresh?ignore_unavailable=true", names.join(","));
        self.client.send(Verb::Post, &path, None).await
    }

    /// Asks whether the index is there.
    ///
    /// # Errors
    ///
    /// The trouble and its account, when that cannot be known.
    pub async fn check(&self, index: IndexId) -> Result<Presence, (ServiceFailure, String)> {
        let found = presence(&self.client, self.target(index)).await;
        if matches!(found, Ok(Presence::There)) {
            self.set_seen(index, Instant::now());
        }
        found
    }

    /// Why a delete may not go to this index now.
    async fn unseen(&self, index: IndexId) -> Option<Answered> {
        let slot = &self.seen[usize::from(index.0)];
        let seen = *slot.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_some_and(|at| at.elapsed() < SEEN_FOR) {
            return None;
        }
        match self.check(index).await {
            Ok(Presence::There) => None,
            Ok(Presence::Missing(reason)) => Some(Answered::Missing(index, reason)),
            Err((failure, reason)) => Some(Answered::Fault(failure, reason)),
        }
    }

    fn set_seen(&self, index: IndexId, at: Instant) {
        let slot = &self.seen[usize::from(index.0)];
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

/// What an answer means for the request as a whole.
fn sort(actions: &[Action], answer: &Answer) -> Answered {
    match answer.status {
        200 => match parse(actions, &answer.body) {
            Ok(items) => Answered::Items(items),
            Err(error) => Answered::Fault(ServiceFailure::NotUnderstood, error.to_string()),
        },
        413 => Answered::TooLarge,
        429 if parse_refusal(&answer.body).is_some_and(|cause| cause.never_fits()) => {
            Answered::TooLarge
        }
        // Only Elasticsearch itself may blame the documents.
        400 => match parse_refusal(&answer.body) {
            Some(cause) => Answered::Refused(cause),
            None => fault(answer),
        },
        _ => fault(answer),
    }
}

fn fault(answer: &Answer) -> Answered {
    let (failure, reason) = service_failure(answer);
    Answered::Fault(failure, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sink::testing::action;

    #[test]
    fn an_answer_is_about_the_service_or_the_documents() {
        let check = |status, body: &'static str, expected: &str| {
            let answer = Answer { status, body: body.into() };
            let text = format!("{:?}", sort(&[action(0, "a", 1, None)], &answer));
            assert!(text.contains(expected), "{status} {body} is {text}");
        };
        let error = r#"{"error":{"type":"x","reason":"said [secret]"},"status":400}"#;
        check(200, r#"{"items":[{"delete":{"status":200}}]}"#, "Items");
        check(200, r#"{"items":[]}"#, "Fault(NotUnderstood");
        check(200, "<html>", "Fault(NotUnderstood");
        check(413, "", "TooLarge");
        check(400, error, "Refused");
        check(400, "<html>", "Fault(NotUnderstood, \"status 400\")");
        check(401, error, "Fault(NotAuthorised, \"not authorised");
        check(403, "", "Fault(NotAuthorised");
        check(404, error, "Fault(NotUnderstood, \"status 404: x: said …\")");
        check(429, "", "Fault(Overloaded");
        check(503, "", "Fault(Unavailable");
    }
}
