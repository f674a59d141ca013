//! Where lines and spans go: lines to standard error, spans to an OTLP collector if there is one.
//!
//! Lines are readable on a terminal and JSON elsewhere. Spans are off unless the standard variables
//! name a collector (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) or ask
//! for one (`OTEL_TRACES_EXPORTER=otlp`).
//!
//! Not here: which spans there are (`trace`), and how they are sent (`export`).

mod export;

use std::io::{self, IsTerminal};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Strings;
use crate::telemetry::metrics::log::count;
use crate::telemetry::trace;

/// For the last spans, when the process ends.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What is wrong with a variable.
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
}

/// The log is written as long as the process lives; spans until this is closed.
#[must_use]
pub struct Log(Option<SdkTracerProvider>);

impl Log {
    /// Sends the last spans. Blocks for two seconds at most; call it outside of the runtime.
    pub fn close(self) {
        if let Some(provider) = self.0 {
            // A collector that does not answer has been told of, and is not waited for.
            drop(provider.shutdown_with_timeout(CLOSE_MAX));
        }
    }
}

/// Starts the log. Spans are sent by the runtime `traces`; without one there are none.
///
/// # Errors
///
/// [`LogError`].
pub fn start(environment: &Strings, traces: Option<&Handle>) -> Result<Log, LogError> {
    let directives = environment.get("RUST_LOG").map_or("", String::as_str);
    let directives = if directives.is_empty() { "info" } else { directives };
    let filter = filter(directives).ok_or_else(|| LogError::Filter(directives.to_owned()))?;
    let provider = match traces {
        Some(runtime) => export::provider(environment, runtime)?,
        None => None,
    };
    let spans = provider.as_ref().map(|provider| {
        let only_spans = Targets::new().with_target(trace::TARGET, LevelFilter::TRACE);
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("walferry"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(only_spans)
    });
    let lines = lines(environment).and_then(Count).with_filter(filter);
    Registry::default().with(spans).with(lines).init();
    Ok(Log(provider))
}

/// A word that is no level would be taken for a target of that name, and nothing be logged at all.
fn filter(directives: &str) -> Option<EnvFilter> {
    let is_plain = |word: &&str| !word.contains(['=', '[', ':']) && !word.starts_with("walferry");
    let plain = directives.split(',').map(str::trim).filter(is_plain);
    let known = plain.filter(|word| !word.is_empty()).all(|w| w.parse::<LevelFilter>().is_ok());
    known.then(|| EnvFilter::try_new(directives).ok())?
}

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

/// Counts the lines that are written.
struct Count;

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        count(*event.metadata().level());
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in ["info", "walferry=debug", "warn,walferry::sink=trace", "off", "walferry"] {
            assert!(filter(good).is_some(), "{good}");
        }
        for bad in ["inof", "nonsense", "info,deubg", "walferry=lout"] {
            assert!(filter(bad).is_none(), "{bad}");
        }
    }
}
