//! What the HTTP server answered.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use super::registration::Registration;

/// Fewer than elsewhere: there are many routes.
const SECONDS: &[f64] = &[0.005, 0.02, 0.1, 0.5, 1.0, 5.0];

/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct Http {
    requests: IntCounterVec,
    seconds: HistogramVec,
    auth_failures: IntCounterVec,
    rate_limited: IntCounter,
}

/// Words of the label `reason`.
const REFUSALS: [&str; 6] = [
    "token_malformed",
    "token_unknown",
    "token_expired",
    "token_not_yet_valid",
    "token_foreign",
    "role_missing",
];

impl Http {
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
            auth_failures: add.counters(
                "http_auth_failures_total",
                "Tokens that were refused.",
                &["reason"],
            ),
            rate_limited: add
                .counter("http_rate_limited_total", "Requests refused for being too many."),
        };
        REFUSALS.iter().for_each(|reason| drop(http.auth_failures.with_label_values(&[*reason])));
        http
    }

    pub(super) fn auth_failure(&self, reason: &str) {
        self.auth_failures.with_label_values(&[reason]).inc();
    }

    pub(super) fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    pub(super) fn request(&self, route: &str, method: &'static str, code: u16, took: Duration) {
        self.requests.with_label_values(&[route, method, &code.to_string()]).inc();
        self.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}
