//! Every span: its name, its parent, its attributes. Nobody else makes one.
//!
//! A `batch` lasts from its recording (or its claim) until its fate is durable; `record`, `render`,
//! `bulk` and `settle` are its children. A bulk or a settlement of several batches is the first
//! one's child and has links to the others. Batches have spans, single changes have none, and
//! attributes are counts and words of this program, never a row's value.
//!
//! Unless a collector is configured each of these functions costs one load of an atomic.
//!
//! Not here: where spans go (`log`).

use std::fmt::Display;

use tracing::field::Empty;
use tracing::{Span, field, trace_span};

use crate::telemetry::metrics::Stage;

/// What tells spans from the lines of the log.
pub const TARGET: &str = "walferry::trace";

/// A batch, as long as the span is held. `feed` says where its changes come from.
#[must_use]
pub fn batch(feed: &'static str, changes: usize) -> Span {
    trace_span!(target: TARGET, parent: None, "batch", feed, changes)
}

/// A stage's work on one batch.
#[must_use]
pub fn stage(stage: Stage, batch: &Span) -> Span {
    trace_span!(target: TARGET, parent: batch, "stage", otel.name = stage.as_str())
}

/// One bulk request on its way, with documents of these batches.
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

/// The bulk is answered, or given up. `answered` is false if nothing is known of its documents.
pub fn bulk_ended(span: &Span, bytes: usize, outcome: &'static str, answered: bool) {
    span.record("bytes", bytes).record("outcome", outcome);
    if !answered {
        span.record("otel.status_code", "ERROR");
    }
}

/// One transaction that writes the fate of these batches.
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

/// The settlement is durable.
pub fn settled(span: &Span, completed: u64, failed: u64) {
    span.record("completed", completed).record("failed", failed);
}

/// A request to the HTTP server. `route` is the route's pattern, never the request's path.
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

/// The request's answer.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// Spans of batches, each once and in their order; none where spans are off.
struct Distinct<'a>(Vec<&'a Span>);

impl<'a> Distinct<'a> {
    fn of(batches: impl Iterator<Item = &'a Span>) -> Self {
        let mut distinct: Vec<&Span> = Vec::new();
        // A mark that stands for no changes has none.
        for batch in batches.filter(|batch| !batch.is_disabled()) {
            // Documents of one batch stand together, as a rule.
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
