//! The definitions of all spans: names, parents and attributes.
//!
//! The span `batch` begins when a batch is recorded or claimed and ends when its settlement is
//! durable. `record`, `render`, `bulk` and `settle` are its children. A bulk request or a
//! settlement of several batches is a child of the first batch and has links to the others.
//! Single changes have no spans. Attributes are counts and constant words, never row values.
//!
//! If no collector is configured, each function costs one load of an atomic.
//!
//! Not here: the export of spans (`log::export`).

use std::fmt::Display;

use tracing::field::Empty;
use tracing::{Span, field, trace_span};

use crate::telemetry::metrics::Stage;

/// The target of all spans. It distinguishes them from log events.
pub const TARGET: &str = "walferry::trace";

/// A batch. The span ends when it is dropped. `feed` is the source of the changes.
#[must_use]
pub fn batch(feed: &'static str, changes: usize) -> Span {
    trace_span!(target: TARGET, parent: None, "batch", feed, changes)
}

/// The work of a stage on one batch.
#[must_use]
pub fn stage(stage: Stage, batch: &Span) -> Span {
    trace_span!(target: TARGET, parent: batch, "stage", otel.name = stage.as_str())
}

/// A bulk request with documents of these batches.
#[must_use]
pub fn bulk<'a>(batches: impl Iterator<Item = &'a Span>, documents: usize, attempt: u32) -> Span {
    let mut batches = Distinct::of(batches);
    let span = trace_span!(
        target: TARGET,
        parent: batches.first(),
        "bulk",
        otel.kind = "client",
        db.system.name = "elasticsearch",
        db.operation.name = "bulk",
        db.operation.batch.size = documents,
        attempt,
        bytes = Empty,
        outcome = Empty,
        otel.status_code = Empty,
    );
    batches.link(&span);
    span
}

/// Records the end of a bulk request. `answered` is false if the result of its documents is
/// unknown.
pub fn bulk_ended(span: &Span, bytes: usize, outcome: &'static str, answered: bool) {
    span.record("bytes", bytes).record("outcome", outcome);
    if !answered {
        span.record("otel.status_code", "ERROR");
    }
}

/// A transaction that settles these batches.
#[must_use]
pub fn settle<'a>(batches: impl Iterator<Item = &'a Span>, position: Option<impl Display>) -> Span {
    let mut batches = Distinct::of(batches);
    let span = trace_span!(
        target: TARGET,
        parent: batches.first(),
        "settle",
        otel.kind = "client",
        db.system.name = "postgresql",
        settled_lsn = position.map(field::display),
        completed = Empty,
        failed = Empty,
    );
    batches.link(&span);
    span
}

/// Records that the settlement is durable, with the numbers of completed and failed jobs.
pub fn settled(span: &Span, completed: u64, failed: u64) {
    span.record("completed", completed).record("failed", failed);
}

/// A request to the HTTP server. `route` is the pattern of the route, not the path.
#[must_use]
pub fn request(method: &'static str, route: &str, request_id: &str) -> Span {
    trace_span!(
        target: TARGET,
        parent: None,
        "request",
        otel.kind = "server",
        otel.name = route,
        http.request.method = method,
        http.route = route,
        request_id,
        http.response.status_code = Empty,
        otel.status_code = Empty,
    )
}

/// Records the HTTP status of a response.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// The spans of batches without duplicates, in their order. It is empty if spans are disabled.
struct Distinct<'a>(Vec<&'a Span>);

impl<'a> Distinct<'a> {
    fn of(batches: impl Iterator<Item = &'a Span>) -> Self {
        let mut distinct: Vec<&Span> = Vec::new();
        // A batch without changes has a disabled span.
        for batch in batches.filter(|batch| !batch.is_disabled()) {
            // Documents of one batch are usually adjacent, so the search starts at the end.
            if !distinct.iter().rev().any(|known| known.id() == batch.id()) {
                distinct.push(batch);
            }
        }
        Self(distinct)
    }

    fn first(&self) -> Option<tracing::Id> {
        self.0.first().and_then(|batch| batch.id())
    }

    fn link(&mut self, span: &Span) {
        for other in self.0.drain(..).skip(1) {
            span.follows_from(other);
        }
    }
}
