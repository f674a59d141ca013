//! Overviews as a stream (server-sent events), for pages that stay open.
//!
//! `state`: an overview, at once and then when it has changed, once a second at most. `jobs`: that
//! there are new jobs, and which ones ended. `operations`: those that have changed. `ping` every 15 s,
//! so that no proxy takes the connection for dead. All clients share each reading of the figures
//! (`sampler`). A client that reads slowly misses overviews and takes up no memory.
//!
//! Not here: what an overview is (`overview`).

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::extract;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::overview;
use crate::admin::figures::sample::ENDED_MAX;
use crate::admin::figures::sampler::SampledFigures;
use crate::admin::operation::view::OperationView;
use crate::api::auth::identity::Identity;
use crate::api::server::listener;
use crate::api::server::problem::Problem;
use crate::api::server::streams::{CLIENT_STREAMS_MAX, NoStream, STREAMS_MAX, StreamPlace};
use crate::api::state::ApiState;
use crate::storage::operation::OperationRow;
use crate::telemetry::metrics::http::GaugeGuard;

const OVERVIEW_EVERY: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_secs(15);
/// Then the client connects and authenticates again.
const TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// `GET events`.
pub(in crate::api) async fn get(
    extract::State(state): extract::State<ApiState>,
    identity: Option<Extension<Identity>>,
    head: Parts,
) -> Result<Response, Problem> {
    let name = identity.as_ref().map_or("", |identity| identity.name.as_str());
    let place = state.streams.take(name, listener::address(&head)).map_err(|reason| {
        let detail = match reason {
            NoStream::Full => {
                format!("{STREAMS_MAX} clients are watching already; try again later")
            }
            NoStream::ClientFull => format!(
                "{CLIENT_STREAMS_MAX} streams of this name and address are open; close one of them"
            ),
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail)
    })?;
    let watcher = Watcher::new(state, place, identity.and_then(|identity| identity.0.expires_at));
    let events = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok::<Event, Infallible>(event), watcher))
    });
    let mut response = Sse::new(events).into_response();
    // Proxies must not buffer events.
    let name = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(name, HeaderValue::from_static("no"));
    Ok(response)
}

/// What one client has received.
struct Watcher {
    state: ApiState,
    ticks: tokio::time::Interval,
    /// The last overview, as it was sent.
    sent: String,
    newest_id: Option<i64>,
    /// The newest operations, as they were.
    operations: Option<Vec<OperationRow>>,
    pending: Vec<Event>,
    number: u64,
    /// How often the tokens had changed when it began.
    changes: u64,
    /// When the last event was sent.
    sent_at: Instant,
    end: Instant,
    _place: StreamPlace,
    _counted: GaugeGuard,
}

impl Watcher {
    fn new(state: ApiState, place: StreamPlace, expires_at: Option<SystemTime>) -> Self {
        let mut ticks = interval(OVERVIEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        let counted = state.metrics.http.watching();
        // A stream ends with the identity that opened it.
        let left = expires_at.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        let changes = state.access.authenticator.changes();
        Self {
            changes,
            state,
            ticks,
            sent: String::new(),
            newest_id: None,
            operations: None,
            pending: Vec::new(),
            number: 0,
            sent_at: now,
            end: now + left.unwrap_or(TIME_MAX).min(TIME_MAX),
            _place: place,
            _counted: counted,
        }
    }

    /// The next event; `None` when the client must come again.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop() {
                return Some(self.numbered(event));
            }
            tokio::select! {
                () = self.state.stop.cancelled() => return None,
                _ = self.ticks.tick() => {}
            }
            let are_changed = self.state.access.authenticator.changes() != self.changes;
            if are_changed || Instant::now() >= self.end {
                return None;
            }
            let figures = self.state.sampler.recent().await;
            let overview = overview::overview(&self.state, &figures);
            if let Ok(figures) = figures {
                let news = [self.changed_operations(&figures), self.jobs(&figures)];
                self.pending.extend(news.into_iter().flatten());
            }
            let text = serde_json::to_string(&overview).unwrap_or_default();
            if text != self.sent {
                self.sent.clone_from(&text);
                return Some(self.numbered(Event::default().event("state").data(text)));
            }
            if self.pending.is_empty() && self.sent_at.elapsed() >= PING_EVERY {
                return Some(self.numbered(Event::default().event("ping").data("{}")));
            }
        }
    }

    /// That there are new jobs, or that some ended.
    fn jobs(&mut self, figures: &SampledFigures) -> Option<Event> {
        let sample = &figures.sample;
        let known = self.newest_id.unwrap_or(sample.newest_id);
        // After a `clear` the newest job there is is an old one. Numbers that a rollback took are
        // counted too: there are at most so many.
        let new_count = (sample.newest_id - known).max(0);
        self.newest_id = Some(known.max(sample.newest_id));
        let ended = &sample.ended_ids;
        if new_count == 0 && ended.is_empty() {
            return None;
        }
        let more = ended.len() >= ENDED_MAX;
        let data = json!({
            "newest_id": sample.newest_id, "new_count": new_count,
            "changed_ids": ended, "more": more,
        });
        Some(Event::default().event("jobs").data(data.to_string()))
    }

    /// The operations that have changed since the last event.
    fn changed_operations(&mut self, figures: &SampledFigures) -> Option<Event> {
        let present = &figures.sample.operations;
        let known = self.operations.replace(present.clone())?;
        let changed: Vec<OperationView> =
            present.iter().filter(|row| !known.contains(row)).cloned().map(Into::into).collect();
        if changed.is_empty() {
            return None;
        }
        let data = json!({ "changed": changed });
        Some(Event::default().event("operations").data(data.to_string()))
    }

    fn numbered(&mut self, event: Event) -> Event {
        self.number += 1;
        self.sent_at = Instant::now();
        event.id(self.number.to_string())
    }
}
