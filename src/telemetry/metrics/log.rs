//! Metrics of the log. They are static, because a process has one log.
//!
//! Not here: the log itself (`telemetry::log`).

use std::sync::LazyLock;

use prometheus::IntCounterVec;
use tracing::Level;

use super::registration::{Registration, options};

static LINES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = options("log_messages_total", "Lines written to the log.");
    let lines = IntCounterVec::new(options, &["level"]).expect("the name and the label are valid");
    LEVELS.iter().for_each(|level| drop(lines.with_label_values(&[word(*level)])));
    lines
});

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// Counts a log line.
pub fn count(level: Level) {
    LINES.with_label_values(&[word(level)]).inc();
}

pub(super) fn register(add: &Registration<'_>) {
    add.add(Ok(LINES.clone()));
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}
