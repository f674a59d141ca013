//! The log, which is written to standard error, and the setup of the export of spans.
//!
//! Log lines are plain text on a terminal and JSON otherwise. Spans are exported if the standard
//! variables name a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`,
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) or select the exporter (`OTEL_TRACES_EXPORTER=otlp`). The
//! export needs the feature `otlp`.
//!
//! Not here: the definitions of spans (`trace`) and their export (`export`).

#[cfg(feature = "otlp")]
mod export;
#[cfg(not(feature = "otlp"))]
#[path = "no_export.rs"]
mod export;
mod variables;

use std::io::{self, IsTerminal};

use tokio::runtime::Handle;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

use self::export::Exporter;
use crate::config::Strings;
use crate::telemetry::metrics::log::count;

/// An environment variable of the log or of the traces is invalid.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("RUST_LOG={0:?} is not a filter; write info or walferry=debug")]
    Filter(String),
    #[error("{name}={value:?} is not supported; write {allowed}, or leave it away")]
    Variable { name: &'static str, value: String, allowed: &'static str },
    #[error(
        "traces cannot be sent: OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is no address \
         such as http://127.0.0.1:4318, or another OTEL_EXPORTER_OTLP_ variable is not supported"
    )]
    Exporter,
    #[error(
        "{name} asks for traces, but this walferry was built without the feature otlp and sends \
         none; build it with --features otlp, or set OTEL_SDK_DISABLED=true to run without traces"
    )]
    WithoutOtlp { name: &'static str },
}

/// The started log. Spans are exported until it is closed.
#[must_use]
pub struct Log(Option<Exporter>);

impl Log {
    /// Exports the remaining spans. Blocks for up to two seconds; call it outside of the runtime.
    pub fn close(self) {
        if let Some(exporter) = self.0 {
            exporter.close();
        }
    }
}

/// Starts the log. Spans are exported on the runtime `traces`; `None` disables them.
///
/// # Errors
///
/// [`LogError`].
pub fn start(environment: &Strings, traces: Option<&Handle>) -> Result<Log, LogError> {
    let directives = environment.get("RUST_LOG").map_or("", String::as_str);
    let directives = if directives.is_empty() { "info" } else { directives };
    let filter = filter(directives).ok_or_else(|| LogError::Filter(directives.to_owned()))?;
    let exporter = match traces {
        Some(runtime) => Exporter::start(environment, runtime)?,
        None => None,
    };
    let spans = exporter.as_ref().map(Exporter::layer);
    let lines = lines(environment).and_then(LineCounter).with_filter(filter);
    Registry::default().with(spans).with(lines).init();
    Ok(Log(exporter))
}

/// Parses the directives of `RUST_LOG`. `EnvFilter` accepts a misspelled level as the name of a
/// target, which would disable the log; such a word is rejected.
fn filter(directives: &str) -> Option<EnvFilter> {
    let is_plain = |word: &&str| !word.contains(['=', '[', ':']) && !word.starts_with("walferry");
    let plain = directives.split(',').map(str::trim).filter(is_plain);
    let known = plain.filter(|word| !word.is_empty()).all(|w| w.parse::<LevelFilter>().is_ok());
    known.then(|| EnvFilter::try_new(directives).ok())?
}

/// The layer that writes log lines.
fn lines<S>(environment: &Strings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if io::stderr().is_terminal() {
        log.with_ansi(environment.get("NO_COLOR").is_none_or(String::is_empty)).boxed()
    } else {
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    }
}

/// Counts the log lines for the metrics.
struct LineCounter;

impl<S: Subscriber> Layer<S> for LineCounter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        count(*event.metadata().level());
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_misspelled_level_is_rejected() {
        for good in ["info", "walferry=debug", "warn,walferry::sink=trace", "off", "walferry"] {
            assert!(filter(good).is_some(), "{good}");
        }
        for bad in ["inof", "nonsense", "info,deubg", "walferry=lout"] {
            assert!(filter(bad).is_none(), "{bad}");
        }
    }
}
