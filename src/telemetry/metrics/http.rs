//! Metrics of the HTTP server.
//!
//! Not here: counting, which the server's layers do (`api::server`).

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::registration::Registration;

/// Buckets in seconds. They are few because each route has its own series.
const SECONDS: &[f64] = &[0.005, 0.02, 0.1, 0.5, 1.0, 5.0];

/// Metrics of the HTTP server. Clones share them.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
    streams: IntGauge,
    auth_failures: IntCounterVec,
    rate_limited: IntCounter,
    actions: IntCounterVec,
}

/// The values of the label `reason`.
const REFUSALS: [&str; 6] = [
    "token_malformed",
    "token_unknown",
    "token_expired",
    "token_not_yet_valid",
    "token_foreign",
    "role_missing",
];

/// The values of the label `outcome`, which are those of the audit log.
const OUTCOMES: [&str; 3] = ["done", "denied", "failed"];

/// Increments a gauge and decrements it when dropped.
#[derive(Debug)]
pub struct GaugeGuard(IntGauge);

impl GaugeGuard {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl HttpMetrics {
    pub(super) fn new(add: &Registration<'_>) -> Self {
        let http = Self {
            requests: add.counters(
                "http_requests_total",
                "Answers of the HTTP server.",
                &["route", "method", "code"],
            ),
            seconds: add.histograms(
                "http_request_duration_seconds",
                "From a request's head to the head of its answer.",
                "route",
                SECONDS,
            ),
            in_flight: add.gauge("http_requests_in_flight", "Requests without an answer yet."),
            streams: add.gauge("http_sse_clients", "Pages that stay open, each by a stream."),
            auth_failures: add.counters(
                "http_auth_failures_total",
                "Tokens that were refused.",
                &["reason"],
            ),
            rate_limited: add
                .counter("http_rate_limited_total", "Requests refused for being too many."),
            actions: add.counters(
                "admin_actions_total",
                "Operations by what came of them; each is in the audit log as well.",
                &["action", "outcome"],
            ),
        };
        REFUSALS.iter().for_each(|reason| drop(http.auth_failures.with_label_values(&[*reason])));
        http
    }

    pub(super) fn auth_failure(&self, reason: &str) {
        self.auth_failures.with_label_values(&[reason]).inc();
    }

    /// Creates the series of operations at zero. `actions` are constant words.
    pub fn declare(&self, actions: &[&'static str]) {
        for action in actions {
            for outcome in OUTCOMES {
                drop(self.actions.with_label_values(&[*action, outcome]));
            }
        }
    }

    /// Counts an operation by its outcome. Both are constant words.
    pub fn admin_action(&self, action: &'static str, outcome: &'static str) {
        self.actions.with_label_values(&[action, outcome]).inc();
    }

    /// Counts a request as in flight until the guard is dropped.
    #[must_use]
    pub fn under_way(&self) -> GaugeGuard {
        GaugeGuard::new(&self.in_flight)
    }

    /// Counts an event stream as open until the guard is dropped.
    #[must_use]
    pub fn watching(&self) -> GaugeGuard {
        GaugeGuard::new(&self.streams)
    }

    pub(super) fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    pub(super) fn request(&self, route: &str, method: &'static str, code: u16, took: Duration) {
        self.requests.with_label_values(&[route, method, &code.to_string()]).inc();
        self.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn a_guard_counts_until_it_is_dropped() {
        let metrics = Metrics::new();
        let one = metrics.http.watching();
        let two = metrics.http.watching();
        let request = metrics.http.under_way();
        let text = metrics.render();
        assert!(text.contains("walferry_http_sse_clients 2"), "{text}");
        assert!(text.contains("walferry_http_requests_in_flight 1"), "{text}");
        drop((one, two, request));
        let text = metrics.render();
        assert!(text.contains("walferry_http_sse_clients 0"), "{text}");
        assert!(text.contains("walferry_http_requests_in_flight 0"), "{text}");
    }

    #[test]
    fn operations_have_series_before_the_first_one() {
        let metrics = Metrics::new();
        metrics.http.declare(&["stop", "clear"]);
        metrics.http.admin_action("clear", "denied");
        let text = metrics.render();
        assert_eq!(text.matches("walferry_admin_actions_total{").count(), 6);
        let denied = "walferry_admin_actions_total{action=\"clear\",outcome=\"denied\"} 1";
        assert!(text.contains(denied), "{text}");
    }
}
